//! Plays the lines of a file of golden vectors.

mod line;
mod next;

use std::collections::HashMap;

use oscar::{sys, Attend, Cache, Calibration, Entry, OpenStep, Sequence, Step, Tensor, TensorMut};

use line::{bad, Failure, Inputs, Played, Words};
use next::{Geometry, Next};

/// What the labels of a file stand for.
#[derive(Default)]
struct Player {
    cache: Option<Cache>,
    next: Next,
    layers: Vec<Geometry>,
    /// The layer of the latest attention.
    attended: Geometry,
    sequences: HashMap<usize, Sequence>,
    steps: HashMap<usize, OpenStep>,
    out: Vec<f32>,
    lse: Vec<f32>,
    tolerance: f64,
}

const RESULTS: [&str; 9] = ["status", "length", "out", "lse", "key", "value", "scores", "stats", "merge"];

/// The number of lines with results, all of which agree; or what is wrong.
pub fn replay(text: &str) -> Result<usize, String> {
    let lines: Vec<&str> = text.lines().collect();
    if lines.first() != Some(&"oscar-vectors 1") || lines.last() != Some(&"done") || !text.ends_with('\n') {
        return Err("the first line is not \"oscar-vectors 1\", or the last one not \"done\"".into());
    }
    let (mut player, mut wanted, mut n_results) = (Player::default(), None, 0);
    for (i, line) in lines[..lines.len() - 1].iter().enumerate().skip(1) {
        let mut words = Words::new(line);
        let name = match words.next_word() {
            Some(name) if !name.starts_with('#') => name,
            _ => continue,
        };
        if name == "fails" {
            wanted = Some(line.trim_start_matches("fails "));
            continue;
        }
        let played = player.play(name, &mut words);
        settle(played, wanted).map_err(|what| format!("line {}: {what}", i + 1))?;
        if wanted.is_none() && !words.is_empty() {
            return Err(format!("line {} is too long", i + 1));
        }
        n_results += usize::from(wanted.is_some() || RESULTS.contains(&name));
        wanted = None;
    }
    if n_results == 0 {
        return Err("the file compares nothing".into());
    }
    Ok(n_results)
}

/// Compares the outcome of a call with the line before it: nothing, or a status's name and number.
fn settle(played: Played, wanted: Option<&str>) -> Result<(), String> {
    match (played, wanted) {
        (Err(Failure::Bad(text)), _) => Err(text),
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(wanted)) => Err(format!("the call succeeds, wanted {wanted}")),
        (Err(Failure::Call(error)), None) => Err(format!("got {error}, wanted success")),
        (Err(Failure::Call(error)), Some(wanted)) => {
            let got = format!("{} {}", error.status_name(), error.status());
            if got == wanted {
                Ok(())
            } else {
                Err(format!("got {got} ({error}), wanted {wanted}"))
            }
        }
    }
}

impl Player {
    fn play(&mut self, name: &str, words: &mut Words<'_>) -> Played {
        match name {
            "tolerance" => self.tolerance = words.number()?,
            "status" => status(words)?,
            "cache" => self.create(words)?,
            "backend" => self.create_with_backend(words)?,
            "layer_config" => self.next.layer(words)?,
            "self_calibrate" => self.next.self_calibrates = true,
            "calibrator" => self.next.calibrator(words)?,
            "feed" => self.next.feed(words)?,
            "finish" => self.next.finish()?,
            "merge" => self.merge(words)?,
            "load" => load(words.word()?)?,
            "freeze" => self.cache()?.freeze().map(drop)?,
            "open" => {
                let sequence = self.cache()?.open()?;
                self.sequences.insert(words.number()?, sequence);
            }
            "close" | "fork" | "truncate" | "accept" | "length" => self.sequence_call(name, words)?,
            "begin" => self.begin(words)?,
            "append" | "attend" | "layer" => self.compute(name, words)?,
            "out" => {
                let (row, head): (usize, usize) = (words.number()?, words.number()?);
                let dim = self.attended.value_dim;
                let first = (row * self.attended.n_q_heads + head) * dim;
                self.compare(&self.out[first..first + dim], words)?;
            }
            "lse" => {
                let n = self.attended.n_q_heads;
                let first = words.number::<usize>()? * n;
                self.compare(&self.lse[first..first + n], words)?;
            }
            "end" => self.with_step(words.number()?, |step| step.try_end())?,
            "abort" => {
                let open = self.take_step(words.number()?)?;
                self.cache()?.resume(open)?.abort()?;
            }
            "key" | "value" => self.read(name, words)?,
            "scores" => self.scores(words)?,
            "stats" => self.stats(words)?,
            _ => return bad(format!("there is no directive {name}")),
        }
        Ok(())
    }

    fn compare(&self, got: &[f32], words: &mut Words<'_>) -> Played {
        for (i, &x) in got.iter().enumerate() {
            let bits = u32::from_str_radix(words.word()?, 16).map_err(|error| Failure::Bad(error.to_string()))?;
            let wanted = f32::from_bits(bits);
            let is_near = x == wanted || (f64::from(x) - f64::from(wanted)).abs() <= self.tolerance;
            if !is_near {
                return bad(format!("result {i} is {x}, wanted {wanted}"));
            }
        }
        Ok(())
    }

    fn cache(&mut self) -> Result<&mut Cache, Failure> {
        self.cache.as_mut().ok_or_else(|| Failure::Bad("there is no cache".into()))
    }

    fn sequence(&self, words: &mut Words<'_>) -> Result<Sequence, Failure> {
        match words.number()? {
            0 => Ok(Sequence::PADDING),
            label => self.sequences.get(&label).copied().ok_or_else(|| Failure::Bad("no such sequence".into())),
        }
    }

    fn take_step(&mut self, label: usize) -> Result<OpenStep, Failure> {
        self.steps.remove(&label).ok_or_else(|| Failure::Bad("no such step".into()))
    }

    fn with_step(&mut self, label: usize, call: impl FnOnce(&mut Step<'_>) -> oscar::Result<()>) -> Played {
        let open = self.take_step(label)?;
        let mut step = self.cache()?.resume(open)?;
        let called = call(&mut step);
        let open = step.suspend();
        self.steps.insert(label, open);
        Ok(called?)
    }

    fn create(&mut self, words: &mut Words<'_>) -> Played {
        *self = Player { tolerance: self.tolerance, next: std::mem::take(&mut self.next), ..Player::default() };
        let (config, layers) = self.next.config(words)?;
        self.cache = Some(Cache::new(&config)?);
        self.layers = layers;
        Ok(())
    }

    /// Zero for a layer that is not there, which the library is to say.
    fn layer(&self, index: u32) -> Geometry {
        self.layers.get(index as usize).copied().unwrap_or_default()
    }

    fn create_with_backend(&mut self, words: &mut Words<'_>) -> Played {
        let before = std::env::var_os("OSCAR_BACKEND");
        std::env::set_var("OSCAR_BACKEND", words.word()?);
        let created = self.create(words);
        match before {
            Some(name) => std::env::set_var("OSCAR_BACKEND", name),
            None => std::env::remove_var("OSCAR_BACKEND"),
        }
        created
    }

    fn sequence_call(&mut self, name: &str, words: &mut Words<'_>) -> Played {
        let sequence = self.sequence(words)?;
        match name {
            "close" => self.cache()?.close(sequence)?,
            "truncate" => self.cache()?.truncate(sequence, words.number()?)?,
            "fork" => {
                let child = self.cache()?.fork(sequence, words.number()?)?;
                self.sequences.insert(words.number()?, child);
            }
            "accept" => {
                let (base, mut indices) = (words.number()?, Vec::new());
                while !words.is_empty() {
                    indices.push(words.number()?);
                }
                self.cache()?.accept(sequence, base, &indices)?;
            }
            _ => compare_number("the length", self.cache()?.length(sequence)?, words)?,
        }
        Ok(())
    }

    fn begin(&mut self, words: &mut Words<'_>) -> Played {
        let (label, mut entries) = (words.number()?, Vec::new());
        while !words.is_empty() {
            entries.push(Entry::new(self.sequence(words)?, words.number()?).n_draft(words.number()?));
        }
        let open = self.cache()?.begin(&entries)?.suspend();
        self.steps.insert(label, open);
        Ok(())
    }

    /// append, attend and layer: all inputs of a call come from one run of the generator, as k, v, q.
    fn compute(&mut self, call: &str, words: &mut Words<'_>) -> Played {
        let (label, layer, mut inputs) = (words.number()?, words.number()?, Inputs(words.number()?));
        let open = self.take_step(label)?;
        let g = self.layer(layer);
        let step = self.cache()?.resume(open)?;
        let n = step.n_rows();
        let open = step.suspend();
        self.steps.insert(label, open);
        let (mut k, mut v) = (Vec::new(), Vec::new());
        if call != "attend" {
            k = inputs.take(n * g.n_kv_heads * g.key_dim);
            v = inputs.take(n * g.n_kv_heads * g.value_dim);
        }
        let keys = |k| Tensor::new(k, [n, g.n_kv_heads, g.key_dim]);
        let values = |v| Tensor::new(v, [n, g.n_kv_heads, g.value_dim]);
        if call == "append" {
            return self.with_step(label, |step| step.append(layer, keys(&k[..])?, values(&v[..])?));
        }
        let q = inputs.take(n * g.n_q_heads * g.key_dim);
        let (mut out, mut lse) = (vec![0.0; n * g.n_q_heads * g.value_dim], vec![0.0; n * g.n_q_heads]);
        let (mut sinks, mut mask) = (Vec::new(), Vec::new());
        let (mut scale, mut softcap) = (0.0, 0.0);
        while !words.is_empty() {
            match words.word()? {
                "scale" => scale = words.number()?,
                "softcap" => softcap = words.number()?,
                "sink" => sinks = Inputs(words.number()?).take(g.n_q_heads),
                "mask" => {
                    for _ in 0..n {
                        mask.extend(words.word()?.bytes().map(|bit| bit - b'0'));
                    }
                }
                option => return bad(format!("there is no option {option}")),
            }
        }
        let played = self.with_step(label, |step| {
            let out = TensorMut::new(&mut out, [n, g.n_q_heads, g.value_dim])?;
            let mut attend = Attend::new(Tensor::new(&q, [n, g.n_q_heads, g.key_dim])?, out)
                .lse(TensorMut::new(&mut lse, [n, g.n_q_heads])?)
                .scale(scale)
                .softcap(softcap);
            if !sinks.is_empty() {
                attend = attend.sink_logits(Tensor::new(&sinks, [g.n_q_heads])?);
            }
            if !mask.is_empty() {
                attend = attend.mask(Tensor::new(&mask, [n, mask.len() / n])?);
            }
            if call == "attend" {
                step.attend(layer, attend)
            } else {
                step.layer(layer, keys(&k[..])?, values(&v[..])?, attend)
            }
        });
        self.out = out;
        self.lse = lse;
        self.attended = g;
        played
    }

    fn read(&mut self, name: &str, words: &mut Words<'_>) -> Played {
        let sequence = self.sequence(words)?;
        let (layer, head, token): (_, _, u64) = (words.number()?, words.number()?, words.number()?);
        let g = self.layer(layer);
        let dim = if name == "key" { g.key_dim } else { g.value_dim };
        let mut row = vec![0.0; dim];
        let tensor = TensorMut::new(&mut row, [1, dim])?;
        let (k, v) = if name == "key" { (Some(tensor), None) } else { (None, Some(tensor)) };
        self.cache()?.read(sequence, layer, head, token..token + 1, k, v)?;
        self.compare(&row, words)
    }

    /// Outputs before log-sum-exps, from one run of the generator; the first parts of row 0 are empty.
    fn merge(&mut self, words: &mut Words<'_>) -> Played {
        let mut inputs = Inputs(words.number()?);
        let [n_parts, n, dim, n_empty]: [usize; 4] =
            [words.number()?, words.number()?, words.number()?, words.number()?];
        let (outs, mut lses) = (inputs.take(n_parts * n * dim), inputs.take(n_parts * n));
        for part in 0..n_empty.min(n_parts) {
            lses[part * n] = f32::NEG_INFINITY;
        }
        let (mut joined, mut lse) = (vec![0.0; n * dim], vec![0.0; n]);
        oscar::merge(
            Tensor::new(&outs, [n_parts, n, dim])?,
            Tensor::new(&lses, [n_parts, n])?,
            TensorMut::new(&mut joined, [n, dim])?,
            Some(TensorMut::new(&mut lse, [n])?),
        )?;
        joined.extend(lse);
        self.compare(&joined, words)
    }

    fn scores(&mut self, words: &mut Words<'_>) -> Played {
        let sequence = self.sequence(words)?;
        let (layer, head, first) = (words.number()?, words.number()?, words.number::<u64>()?);
        let n: usize = words.number()?;
        let mut scores = vec![0.0; n];
        let tensor = TensorMut::new(&mut scores, [n])?;
        self.cache()?.scores(sequence, layer, head, first..first + n as u64, tensor)?;
        self.compare(&scores, words)
    }

    fn stats(&mut self, words: &mut Words<'_>) -> Played {
        let stats = self.cache()?.stats()?;
        while !words.is_empty() {
            let name = words.word()?;
            let got = match name {
                "n_sequences" => stats.n_sequences.into(),
                "n_tokens" => stats.n_tokens,
                "n_packed_tokens" => stats.n_packed_tokens,
                "n_blocks" => stats.n_blocks,
                "n_exact_pages" => stats.n_exact_pages,
                "bytes_sequences" => stats.bytes_sequences,
                field => return bad(format!("there is no field {field}")),
            };
            compare_number(name, got, words)?;
        }
        Ok(())
    }
}

fn compare_number(name: &str, got: u64, words: &mut Words<'_>) -> Played {
    match words.number::<u64>()? {
        wanted if wanted == got => Ok(()),
        wanted => bad(format!("{name} is {got}, wanted {wanted}")),
    }
}

fn load(hex: &str) -> Played {
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).map_err(|error| Failure::Bad(error.to_string()));
    let bytes = (0..hex.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, Failure>>()?;
    Calibration::load(&bytes)?;
    Ok(())
}

/// The raw crate's number of a status, and the library's name for that number.
fn status(words: &mut Words<'_>) -> Played {
    let name = words.word()?;
    let known = match name {
        "OSCAR_OK" => sys::OSCAR_OK,
        "OSCAR_E_INVALID" => sys::OSCAR_E_INVALID,
        "OSCAR_E_NO_MEMORY" => sys::OSCAR_E_NO_MEMORY,
        "OSCAR_E_NO_SPACE" => sys::OSCAR_E_NO_SPACE,
        "OSCAR_E_NOT_FOUND" => sys::OSCAR_E_NOT_FOUND,
        "OSCAR_E_STATE" => sys::OSCAR_E_STATE,
        "OSCAR_E_UNSUPPORTED" => sys::OSCAR_E_UNSUPPORTED,
        "OSCAR_E_CORRUPT" => sys::OSCAR_E_CORRUPT,
        "OSCAR_E_BACKEND" => sys::OSCAR_E_BACKEND,
        "OSCAR_E_INTERNAL" => sys::OSCAR_E_INTERNAL,
        "OSCAR_E_DEVICE" => sys::OSCAR_E_DEVICE,
        _ => return bad(format!("there is no status {name}")),
    };
    // SAFETY: any number will do, and the text is static.
    let library = unsafe { std::ffi::CStr::from_ptr(sys::oscar_status_name(known)) };
    let wanted: i32 = words.number()?;
    if known != wanted || library.to_str() != Ok(name) {
        return bad(format!("{name} is {known}, which the library calls {library:?}, wanted {wanted}"));
    }
    Ok(())
}
