//! The smallest file of rotations as torch.save writes it: a zip of stored entries, and a pickle of protocol 2.

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Local headers, the directory and its end (PKWARE's APPNOTE 4.3.7, 4.3.12, 4.3.16).
fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let size = bytes.len() as u32;
        let mut common = vec![0; 10]; // version, flags, method 0 (stored), time, date
        for field in [crc(bytes), size, size] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((file.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        file.extend((entries.len() as u16).to_le_bytes());
    }
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn text(pickle: &mut Vec<u8>, value: &str) {
    pickle.push(b'X');
    pickle.extend((value.len() as u32).to_le_bytes());
    pickle.extend(value.as_bytes());
}

fn integer(pickle: &mut Vec<u8>, value: usize) {
    pickle.push(b'J');
    pickle.extend((value as u32).to_le_bytes());
}

/// One layer's rotation, `[dim, dim]`.
pub fn rotation_file(layer_id: usize, rotation: &[f32], dim: usize) -> Vec<u8> {
    assert_eq!(rotation.len(), dim * dim);
    let mut p = b"\x80\x02}q\0(".to_vec();
    text(&mut p, "format_version");
    integer(&mut p, 1);
    text(&mut p, "source_grouping");
    text(&mut p, "layer");
    text(&mut p, "layers");
    p.extend(b"}(");
    integer(&mut p, layer_id);
    p.extend(b"}(");
    text(&mut p, "layer_id");
    integer(&mut p, layer_id);
    text(&mut p, "rotation");
    p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut p, "storage");
    p.extend(b"ctorch\nFloatStorage\n");
    text(&mut p, "0");
    text(&mut p, "cpu");
    integer(&mut p, dim * dim);
    p.extend(b"tQ");
    integer(&mut p, 0);
    for pair in [[dim, dim], [dim, 1]] {
        p.push(b'(');
        pair.iter().for_each(|&n| integer(&mut p, n));
        p.push(b't');
    }
    p.extend(b"\x89ccollections\nOrderedDict\n)RtRuuu.");
    zip(&[
        ("rotation/data.pkl", p),
        ("rotation/byteorder", b"little".to_vec()),
        ("rotation/data/0", rotation.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ("rotation/version", b"3\n".to_vec()),
    ])
}
