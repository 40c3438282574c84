// Written by bindings/rust/generate (bindgen 0.60.1) from include/oscar/oscar.h. Do not edit.

pub const OSCAR_VERSION_MAJOR: u32 = 0;
pub const OSCAR_VERSION_MINOR: u32 = 1;
pub const OSCAR_VERSION_PATCH: u32 = 0;
pub const OSCAR_ABI_VERSION: u32 = 1;
pub const OSCAR_DEFAULT: u32 = 4294967295;
pub const OSCAR_QUERY_ONLY: u32 = 4294967295;
pub type oscar_status = i32;
pub const OSCAR_OK: oscar_status_enum = 0;
#[doc = " an argument is wrong; the text names it, what was got and what was wanted"]
pub const OSCAR_E_INVALID: oscar_status_enum = -1;
#[doc = " the allocator returned NULL"]
pub const OSCAR_E_NO_MEMORY: oscar_status_enum = -2;
#[doc = " the cache's capacity is used up; close sequences or create a larger cache"]
pub const OSCAR_E_NO_SPACE: oscar_status_enum = -3;
#[doc = " a sequence or step id that does not exist, or no longer"]
pub const OSCAR_E_NOT_FOUND: oscar_status_enum = -4;
#[doc = " the call is not allowed now, e.g. closing a sequence that an open step uses"]
pub const OSCAR_E_STATE: oscar_status_enum = -5;
#[doc = " understood, and not served; the text says why"]
pub const OSCAR_E_UNSUPPORTED: oscar_status_enum = -6;
#[doc = " the bytes given are not what they claim to be"]
pub const OSCAR_E_CORRUPT: oscar_status_enum = -7;
#[doc = " the backend asked for is unknown or cannot run here"]
pub const OSCAR_E_BACKEND: oscar_status_enum = -8;
#[doc = " a bug in liboscar: please report it"]
pub const OSCAR_E_INTERNAL: oscar_status_enum = -9;
#[doc = " the device reported an error; its cache can then only be destroyed"]
pub const OSCAR_E_DEVICE: oscar_status_enum = -10;
pub type oscar_status_enum = ::std::os::raw::c_int;
extern "C" {
    #[doc = " The version \"major.minor.patch\" of the library that was loaded. Static text, never NULL."]
    pub fn oscar_version() -> *const ::std::os::raw::c_char;
}
extern "C" {
    #[doc = " OSCAR_ABI_VERSION of the library that was loaded."]
    pub fn oscar_abi_version() -> u32;
}
extern "C" {
    #[doc = " The name of a status, e.g. \"OSCAR_E_NO_SPACE\"; \"OSCAR_E_UNKNOWN\" for a number this library does not know."]
    pub fn oscar_status_name(status: oscar_status) -> *const ::std::os::raw::c_char;
}
extern "C" {
    #[doc = " What the last failed call of this thread had to say. Never NULL; valid until the thread's next failing call. A call"]
    #[doc = " that succeeds does not change it."]
    pub fn oscar_last_error() -> *const ::std::os::raw::c_char;
}
#[doc = " One way of computing."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_backend_info {
    pub struct_size: u32,
    #[doc = " 1: can run on this machine"]
    pub available: u32,
    #[doc = " 1: what a cache created now would use"]
    pub selected: u32,
    pub reserved: u32,
    #[doc = " \"reference\", \"scalar\", \"avx2\", \"avx512\", \"cuda\""]
    pub name: [::std::os::raw::c_char; 32usize],
    #[doc = " why it is not available; empty where it is"]
    pub reason: [::std::os::raw::c_char; 192usize],
}
#[test]
fn bindgen_test_layout_oscar_backend_info() {
    assert_eq!(
        ::std::mem::size_of::<oscar_backend_info>(),
        240usize,
        concat!("Size of: ", stringify!(oscar_backend_info))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_backend_info>(),
        4usize,
        concat!("Alignment of ", stringify!(oscar_backend_info))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_available() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).available) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(available)
            )
        );
    }
    test_field_available();
    fn test_field_selected() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).selected) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(selected)
            )
        );
    }
    test_field_selected();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_name() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).name) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(name)
            )
        );
    }
    test_field_name();
    fn test_field_reason() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_backend_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reason) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_backend_info),
                "::",
                stringify!(reason)
            )
        );
    }
    test_field_reason();
}
impl Default for oscar_backend_info {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Describes backend number `index`. The environment variable OSCAR_BACKEND forces one of the CPU's by name; \"cuda\" (device"]
    #[doc = " 0) is chosen by a cache's device_type instead."]
    #[doc = "   index     0, 1, ... until OSCAR_E_NOT_FOUND"]
    #[doc = "   info_out  struct_size set by the caller"]
    pub fn oscar_backend_get(index: u32, info_out: *mut oscar_backend_info) -> oscar_status;
}
pub const OSCAR_DEVICE_CPU: oscar_device_enum = 1;
pub const OSCAR_DEVICE_CUDA: oscar_device_enum = 2;
#[doc = " Numbers of DLPack (DLDeviceType, DLDataTypeCode)."]
pub type oscar_device_enum = ::std::os::raw::c_uint;
pub const OSCAR_DTYPE_INT: oscar_dtype_code_enum = 0;
pub const OSCAR_DTYPE_UINT: oscar_dtype_code_enum = 1;
pub const OSCAR_DTYPE_FLOAT: oscar_dtype_code_enum = 2;
pub const OSCAR_DTYPE_BFLOAT: oscar_dtype_code_enum = 4;
pub type oscar_dtype_code_enum = ::std::os::raw::c_uint;
#[doc = " A borrowed view of the caller's memory; the library keeps no pointer after a call returns. Fixed for ABI 1."]
#[doc = " An absent optional tensor has data NULL and ndim 0. Strides count elements; all zero means dense, last dim fastest. Each"]
#[doc = " stride of an output must step over all that the smaller ones reach: no two of its elements share memory."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_tensor {
    pub data: *mut ::std::os::raw::c_void,
    #[doc = " oscar_device_enum"]
    pub device_type: i32,
    pub device_id: i32,
    #[doc = " oscar_dtype_code_enum; F32 = {FLOAT,32}, F16 = {FLOAT,16}, BF16 = {BFLOAT,16}"]
    pub dtype_code: u8,
    pub dtype_bits: u8,
    #[doc = " 1"]
    pub dtype_lanes: u16,
    #[doc = " 1 .. 4"]
    pub ndim: i32,
    pub shape: [i64; 4usize],
    pub stride: [i64; 4usize],
}
#[test]
fn bindgen_test_layout_oscar_tensor() {
    assert_eq!(
        ::std::mem::size_of::<oscar_tensor>(),
        88usize,
        concat!("Size of: ", stringify!(oscar_tensor))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_tensor>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_tensor))
    );
    fn test_field_data() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).data) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(data)
            )
        );
    }
    test_field_data();
    fn test_field_device_type() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).device_type) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(device_type)
            )
        );
    }
    test_field_device_type();
    fn test_field_device_id() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).device_id) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(device_id)
            )
        );
    }
    test_field_device_id();
    fn test_field_dtype_code() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).dtype_code) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(dtype_code)
            )
        );
    }
    test_field_dtype_code();
    fn test_field_dtype_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).dtype_bits) as usize - ptr as usize
            },
            17usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(dtype_bits)
            )
        );
    }
    test_field_dtype_bits();
    fn test_field_dtype_lanes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).dtype_lanes) as usize - ptr as usize
            },
            18usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(dtype_lanes)
            )
        );
    }
    test_field_dtype_lanes();
    fn test_field_ndim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).ndim) as usize - ptr as usize
            },
            20usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(ndim)
            )
        );
    }
    test_field_ndim();
    fn test_field_shape() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).shape) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(shape)
            )
        );
    }
    test_field_shape();
    fn test_field_stride() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_tensor>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).stride) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_tensor),
                "::",
                stringify!(stride)
            )
        );
    }
    test_field_stride();
}
impl Default for oscar_tensor {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_stream_s {
    _unused: [u8; 0],
}
#[doc = " Layout-compatible with cudaStream_t. NULL on the CPU."]
pub type oscar_stream = *mut oscar_stream_s;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_cache {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibration {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibrator {
    _unused: [u8; 0],
}
#[doc = " Ids, not pointers: a stale one is OSCAR_E_NOT_FOUND, never a crash, and is not given out again. Sequence 0 is the"]
#[doc = " padding sequence: rows given to it are not stored, their output is 0 and their log-sum-exp -infinity."]
pub type oscar_seq = u64;
pub type oscar_step = u64;
#[doc = " Where host memory comes from. allocate returns NULL when there is none; release gets what allocate got. Both NULL:"]
#[doc = " the C++ heap. Called by create and destroy functions only."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_allocator {
    pub user: *mut ::std::os::raw::c_void,
    pub allocate: ::std::option::Option<
        unsafe extern "C" fn(
            user: *mut ::std::os::raw::c_void,
            size: u64,
            alignment: u64,
        ) -> *mut ::std::os::raw::c_void,
    >,
    pub release: ::std::option::Option<
        unsafe extern "C" fn(
            user: *mut ::std::os::raw::c_void,
            memory: *mut ::std::os::raw::c_void,
            size: u64,
            alignment: u64,
        ),
    >,
}
#[test]
fn bindgen_test_layout_oscar_allocator() {
    assert_eq!(
        ::std::mem::size_of::<oscar_allocator>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_allocator))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_allocator>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_allocator))
    );
    fn test_field_user() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_allocator>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).user) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_allocator),
                "::",
                stringify!(user)
            )
        );
    }
    test_field_user();
    fn test_field_allocate() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_allocator>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).allocate) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_allocator),
                "::",
                stringify!(allocate)
            )
        );
    }
    test_field_allocate();
    fn test_field_release() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_allocator>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).release) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_allocator),
                "::",
                stringify!(release)
            )
        );
    }
    test_field_release();
}
impl Default for oscar_allocator {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub type oscar_storage = u32;
#[doc = " tokens that leave the recent window are packed"]
pub const OSCAR_STORAGE_BLOCKS: oscar_storage_enum = 0;
#[doc = " every token stays BF16: a baseline, and a layer that must not be quantized"]
pub const OSCAR_STORAGE_EXACT: oscar_storage_enum = 1;
pub type oscar_storage_enum = ::std::os::raw::c_uint;
pub type oscar_writer = u32;
#[doc = " shaped where the calibration has query moments, else plain"]
pub const OSCAR_WRITER_AUTO: oscar_writer_enum = 0;
#[doc = " every element to its nearest level"]
pub const OSCAR_WRITER_PLAIN: oscar_writer_enum = 1;
#[doc = " rounding errors steered to where queries do not look; needs query moments"]
pub const OSCAR_WRITER_SHAPED: oscar_writer_enum = 2;
pub type oscar_writer_enum = ::std::os::raw::c_uint;
#[doc = " Geometry and policy of one layer; OSCAR_DEFAULT takes the cache's value. Start from oscar_layer_config_init: 0 has its"]
#[doc = " own meaning, e.g. kv_source 0 is layer 0. struct_size of all entries is the same and not less than here."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_layer_config {
    pub struct_size: u32,
    pub n_q_heads: u32,
    pub n_kv_heads: u32,
    pub key_dim: u32,
    pub value_dim: u32,
    pub window: u32,
    pub storage: u32,
    pub n_refined: u32,
    pub refined_key_bits: u32,
    pub refined_value_bits: u32,
    #[doc = " an earlier layer whose keys and values this one attends to; OSCAR_DEFAULT: its own"]
    pub kv_source: u32,
    pub reserved: u32,
}
#[test]
fn bindgen_test_layout_oscar_layer_config() {
    assert_eq!(
        ::std::mem::size_of::<oscar_layer_config>(),
        48usize,
        concat!("Size of: ", stringify!(oscar_layer_config))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_layer_config>(),
        4usize,
        concat!("Alignment of ", stringify!(oscar_layer_config))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_q_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_q_heads) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(n_q_heads)
            )
        );
    }
    test_field_n_q_heads();
    fn test_field_n_kv_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_kv_heads) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(n_kv_heads)
            )
        );
    }
    test_field_n_kv_heads();
    fn test_field_key_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_dim) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(key_dim)
            )
        );
    }
    test_field_key_dim();
    fn test_field_value_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_dim) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(value_dim)
            )
        );
    }
    test_field_value_dim();
    fn test_field_window() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).window) as usize - ptr as usize
            },
            20usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(window)
            )
        );
    }
    test_field_window();
    fn test_field_storage() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).storage) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(storage)
            )
        );
    }
    test_field_storage();
    fn test_field_n_refined() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_refined) as usize - ptr as usize
            },
            28usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(n_refined)
            )
        );
    }
    test_field_n_refined();
    fn test_field_refined_key_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_key_bits) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(refined_key_bits)
            )
        );
    }
    test_field_refined_key_bits();
    fn test_field_refined_value_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_value_bits) as usize - ptr as usize
            },
            36usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(refined_value_bits)
            )
        );
    }
    test_field_refined_value_bits();
    fn test_field_kv_source() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).kv_source) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(kv_source)
            )
        );
    }
    test_field_kv_source();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            44usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_config),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
}
extern "C" {
    #[doc = " Writes the entry of a layer that takes everything from the cache."]
    #[doc = "   layer_out  gets struct_size = size, reserved 0, and OSCAR_DEFAULT in every other field"]
    #[doc = "   size       sizeof(oscar_layer_config)"]
    #[doc = " Errors: INVALID (size)."]
    pub fn oscar_layer_config_init(layer_out: *mut oscar_layer_config, size: u32) -> oscar_status;
}
#[doc = " Which elements RoPE turns together, of the first 2 n_pairs elements of a head; the others do not turn."]
pub type oscar_rope_pairing = u32;
#[doc = " x[i] with x[i + n_pairs]: Hugging Face's rotate_half, NeoX"]
pub const OSCAR_ROPE_HALF: oscar_rope_pairing_enum = 0;
#[doc = " x[2 i] with x[2 i + 1]: GPT-J; llama.cpp's order of Llama's heads"]
pub const OSCAR_ROPE_INTERLEAVED: oscar_rope_pairing_enum = 1;
pub type oscar_rope_pairing_enum = ::std::os::raw::c_uint;
pub type oscar_value_basis = u32;
#[doc = " a transform for the values of every KV head"]
pub const OSCAR_VALUE_BASIS_BALANCED: oscar_value_basis_enum = 0;
#[doc = " as without calibration: fewer bytes, a faster map, somewhat larger errors"]
pub const OSCAR_VALUE_BASIS_HADAMARD: oscar_value_basis_enum = 1;
pub type oscar_value_basis_enum = ::std::os::raw::c_uint;
#[doc = " How a calibration is to be made, by a calibrator or by the cache itself."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibrator_args {
    pub struct_size: u32,
    #[doc = " oscar_rope_pairing"]
    pub rope_pairing: u32,
    #[doc = " oscar_value_basis"]
    pub value_basis: u32,
    #[doc = " 0"]
    pub reserved: u32,
    #[doc = " positions 0 .. n_positions - 1 will be served; 0: max_tokens of the configuration"]
    pub n_positions: u64,
    #[doc = " [n_pairs] or [n_layers, n_pairs], F32 on the CPU: radians by which pair i turns from one position to the next, e.g."]
    #[doc = " theta^(-2 i / key_dim); scaled ones for YaRN or Llama 3. 0 does not turn: all zeros for a layer without positions."]
    #[doc = " Absent: unknown. Moments are then taken as they are, and finish demands tokens of all positions to be served."]
    pub rope_frequencies: oscar_tensor,
    #[doc = " whose tensors these are: UTF-8 of at most 63 bytes for the file, or NULL"]
    pub model: *const ::std::os::raw::c_char,
    #[doc = " anything else worth remembering, at most 127 bytes, or NULL"]
    pub note: *const ::std::os::raw::c_char,
}
#[test]
fn bindgen_test_layout_oscar_calibrator_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibrator_args>(),
        128usize,
        concat!("Size of: ", stringify!(oscar_calibrator_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibrator_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibrator_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_rope_pairing() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).rope_pairing) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(rope_pairing)
            )
        );
    }
    test_field_rope_pairing();
    fn test_field_value_basis() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_basis) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(value_basis)
            )
        );
    }
    test_field_value_basis();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_n_positions() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_positions) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(n_positions)
            )
        );
    }
    test_field_n_positions();
    fn test_field_rope_frequencies() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).rope_frequencies) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(rope_frequencies)
            )
        );
    }
    test_field_rope_frequencies();
    fn test_field_model() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).model) as usize - ptr as usize
            },
            112usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(model)
            )
        );
    }
    test_field_model();
    fn test_field_note() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).note) as usize - ptr as usize
            },
            120usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_args),
                "::",
                stringify!(note)
            )
        );
    }
    test_field_note();
}
impl Default for oscar_calibrator_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[doc = " What a cache is made for. Start from oscar_cache_config_init."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_cache_config {
    pub struct_size: u32,
    pub n_layers: u32,
    #[doc = " query heads of a layer, a multiple of n_kv_heads, at most 32 per KV head"]
    pub n_q_heads: u32,
    #[doc = " key/value heads of a layer"]
    pub n_kv_heads: u32,
    #[doc = " head_dim of queries and keys: 64, 80, 96, 128, 192 or 256"]
    pub key_dim: u32,
    #[doc = " head_dim of values; OSCAR_DEFAULT or 0: key_dim"]
    pub value_dim: u32,
    #[doc = " sliding window in tokens, the query's own included; 0: attends to everything"]
    pub window: u32,
    #[doc = " oscar_storage"]
    pub storage: u32,
    #[doc = " tokens of every 128, per KV head, kept at the refined widths: 0 .. 128"]
    pub n_refined: u32,
    #[doc = " 2, 3, 4 or 8; 8 on the CPU only"]
    pub refined_key_bits: u32,
    #[doc = " 2, 3, 4 or 8; 8 on the CPU only"]
    pub refined_value_bits: u32,
    #[doc = " oscar_writer"]
    pub writer: u32,
    #[doc = " first tokens of a sequence that stay exact for ever (full-attention layers)"]
    pub n_sink: u32,
    #[doc = " newest tokens that are exact"]
    pub n_recent: u32,
    #[doc = " newest tokens whose votes wait until they can no longer be taken back; <= n_recent"]
    pub max_rollback: u32,
    #[doc = " sequences open at a time"]
    pub max_sequences: u32,
    #[doc = " steps open at a time"]
    pub max_open_steps: u32,
    #[doc = " new tokens of one step, all sequences together"]
    pub max_step_tokens: u32,
    #[doc = " 1: a row's bits do not depend on the rest of the batch (always so on the CPU)"]
    pub batch_invariant: u32,
    #[doc = " entries of `layers`: 0 or n_layers"]
    pub n_layer_configs: u32,
    #[doc = " longest sequence, in tokens"]
    pub max_tokens: u64,
    #[doc = " memory of all sequences together (exact rows, blocks, scores)"]
    pub capacity_bytes: u64,
    #[doc = " per-layer differences, or NULL"]
    pub layers: *const oscar_layer_config,
    #[doc = " borrowed until create returns; NULL: data-free"]
    pub calibration: *const oscar_calibration,
    pub allocator: oscar_allocator,
    #[doc = " oscar_device_enum: where keys and values lie and attention runs; 0: the CPU"]
    pub device_type: u32,
    #[doc = " of a CUDA device: its ordinal"]
    pub device_id: i32,
    #[doc = " where a device's memory comes from; both NULL: cudaMalloc"]
    pub device_allocator: oscar_allocator,
    #[doc = " borrowed until create returns. Not NULL: the cache is COLLECTING until oscar_cache_freeze, and makes a calibration of"]
    #[doc = " its own tokens; `calibration` is then NULL. CPU only"]
    pub self_calibrate: *const oscar_calibrator_args,
    #[doc = " threads that work for this cache within a call, the caller's among them; 0, 1 or OSCAR_DEFAULT: the caller's alone."]
    #[doc = " Each has a workspace of its own (bytes_fixed). Results do not depend on it. CPU only"]
    pub n_threads: u32,
    #[doc = " 0"]
    pub reserved: u32,
}
#[test]
fn bindgen_test_layout_oscar_cache_config() {
    assert_eq!(
        ::std::mem::size_of::<oscar_cache_config>(),
        184usize,
        concat!("Size of: ", stringify!(oscar_cache_config))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_cache_config>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_cache_config))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_layers() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_layers) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_layers)
            )
        );
    }
    test_field_n_layers();
    fn test_field_n_q_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_q_heads) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_q_heads)
            )
        );
    }
    test_field_n_q_heads();
    fn test_field_n_kv_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_kv_heads) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_kv_heads)
            )
        );
    }
    test_field_n_kv_heads();
    fn test_field_key_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_dim) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(key_dim)
            )
        );
    }
    test_field_key_dim();
    fn test_field_value_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_dim) as usize - ptr as usize
            },
            20usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(value_dim)
            )
        );
    }
    test_field_value_dim();
    fn test_field_window() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).window) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(window)
            )
        );
    }
    test_field_window();
    fn test_field_storage() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).storage) as usize - ptr as usize
            },
            28usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(storage)
            )
        );
    }
    test_field_storage();
    fn test_field_n_refined() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_refined) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_refined)
            )
        );
    }
    test_field_n_refined();
    fn test_field_refined_key_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_key_bits) as usize - ptr as usize
            },
            36usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(refined_key_bits)
            )
        );
    }
    test_field_refined_key_bits();
    fn test_field_refined_value_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_value_bits) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(refined_value_bits)
            )
        );
    }
    test_field_refined_value_bits();
    fn test_field_writer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).writer) as usize - ptr as usize
            },
            44usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(writer)
            )
        );
    }
    test_field_writer();
    fn test_field_n_sink() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_sink) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_sink)
            )
        );
    }
    test_field_n_sink();
    fn test_field_n_recent() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_recent) as usize - ptr as usize
            },
            52usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_recent)
            )
        );
    }
    test_field_n_recent();
    fn test_field_max_rollback() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).max_rollback) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(max_rollback)
            )
        );
    }
    test_field_max_rollback();
    fn test_field_max_sequences() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).max_sequences) as usize - ptr as usize
            },
            60usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(max_sequences)
            )
        );
    }
    test_field_max_sequences();
    fn test_field_max_open_steps() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).max_open_steps) as usize - ptr as usize
            },
            64usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(max_open_steps)
            )
        );
    }
    test_field_max_open_steps();
    fn test_field_max_step_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).max_step_tokens) as usize - ptr as usize
            },
            68usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(max_step_tokens)
            )
        );
    }
    test_field_max_step_tokens();
    fn test_field_batch_invariant() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).batch_invariant) as usize - ptr as usize
            },
            72usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(batch_invariant)
            )
        );
    }
    test_field_batch_invariant();
    fn test_field_n_layer_configs() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_layer_configs) as usize - ptr as usize
            },
            76usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_layer_configs)
            )
        );
    }
    test_field_n_layer_configs();
    fn test_field_max_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).max_tokens) as usize - ptr as usize
            },
            80usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(max_tokens)
            )
        );
    }
    test_field_max_tokens();
    fn test_field_capacity_bytes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).capacity_bytes) as usize - ptr as usize
            },
            88usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(capacity_bytes)
            )
        );
    }
    test_field_capacity_bytes();
    fn test_field_layers() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layers) as usize - ptr as usize
            },
            96usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(layers)
            )
        );
    }
    test_field_layers();
    fn test_field_calibration() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).calibration) as usize - ptr as usize
            },
            104usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(calibration)
            )
        );
    }
    test_field_calibration();
    fn test_field_allocator() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).allocator) as usize - ptr as usize
            },
            112usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(allocator)
            )
        );
    }
    test_field_allocator();
    fn test_field_device_type() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).device_type) as usize - ptr as usize
            },
            136usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(device_type)
            )
        );
    }
    test_field_device_type();
    fn test_field_device_id() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).device_id) as usize - ptr as usize
            },
            140usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(device_id)
            )
        );
    }
    test_field_device_id();
    fn test_field_device_allocator() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).device_allocator) as usize - ptr as usize
            },
            144usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(device_allocator)
            )
        );
    }
    test_field_device_allocator();
    fn test_field_self_calibrate() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).self_calibrate) as usize - ptr as usize
            },
            168usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(self_calibrate)
            )
        );
    }
    test_field_self_calibrate();
    fn test_field_n_threads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_threads) as usize - ptr as usize
            },
            176usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(n_threads)
            )
        );
    }
    test_field_n_threads();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_config>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            180usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_config),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
}
impl Default for oscar_cache_config {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Writes the defaults of a named profile."]
    #[doc = "   config_out  gets struct_size = size and every field its default; geometry (n_layers .. key_dim) is 0: set it"]
    #[doc = "   size        sizeof(oscar_cache_config)"]
    #[doc = "   profile     \"2bit\" (4 of 128 tokens refined to 4 bits; also for NULL), \"2bit-plain\" (none refined),"]
    #[doc = "               \"k3v2\", \"3bit\", \"4bit\", \"8bit\" (CPU only), \"exact\" (BF16)"]
    #[doc = " Errors: INVALID (size, or an unknown profile: the text lists them)."]
    pub fn oscar_cache_config_init(
        config_out: *mut oscar_cache_config,
        size: u32,
        profile: *const ::std::os::raw::c_char,
    ) -> oscar_status;
}
#[doc = " What a configuration costs, before any memory is taken."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_cache_report {
    pub struct_size: u32,
    #[doc = " 1: oscar_cache_create will accept it, memory permitting"]
    pub served: u32,
    #[doc = " tokens of the one sequence that the next fields speak of"]
    pub context: u64,
    #[doc = " all that grows with tokens: codes, scales, means, windows, scores, padding, tables"]
    pub bytes_sequences: u64,
    #[doc = " the rest: calibration, workspace, bookkeeping"]
    pub bytes_fixed: u64,
    #[doc = " the same tokens as BF16 keys and values"]
    pub bytes_bf16: u64,
    #[doc = " one block of 128 tokens of one KV head of layer 0 (0 for exact storage)"]
    pub block_bytes: u64,
    #[doc = " 8 bytes_sequences / elements of keys and values"]
    pub bits_per_element: f64,
    #[doc = " of packed tokens alone, codes + scales + mean + ids"]
    pub block_bits_per_element: f64,
    #[doc = " why it is not served, or advice; may be empty"]
    pub reason: [::std::os::raw::c_char; 256usize],
    #[doc = " Once a collecting cache is frozen; the fields above speak of it while it collects. The same for any other cache."]
    pub bytes_sequences_frozen: u64,
    #[doc = " at most: KV heads that stay data-free take less"]
    pub bytes_fixed_frozen: u64,
}
#[test]
fn bindgen_test_layout_oscar_cache_report() {
    assert_eq!(
        ::std::mem::size_of::<oscar_cache_report>(),
        336usize,
        concat!("Size of: ", stringify!(oscar_cache_report))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_cache_report>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_cache_report))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_served() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).served) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(served)
            )
        );
    }
    test_field_served();
    fn test_field_context() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).context) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(context)
            )
        );
    }
    test_field_context();
    fn test_field_bytes_sequences() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_sequences) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bytes_sequences)
            )
        );
    }
    test_field_bytes_sequences();
    fn test_field_bytes_fixed() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_fixed) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bytes_fixed)
            )
        );
    }
    test_field_bytes_fixed();
    fn test_field_bytes_bf16() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_bf16) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bytes_bf16)
            )
        );
    }
    test_field_bytes_bf16();
    fn test_field_block_bytes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).block_bytes) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(block_bytes)
            )
        );
    }
    test_field_block_bytes();
    fn test_field_bits_per_element() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bits_per_element) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bits_per_element)
            )
        );
    }
    test_field_bits_per_element();
    fn test_field_block_bits_per_element() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).block_bits_per_element) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(block_bits_per_element)
            )
        );
    }
    test_field_block_bits_per_element();
    fn test_field_reason() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reason) as usize - ptr as usize
            },
            64usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(reason)
            )
        );
    }
    test_field_reason();
    fn test_field_bytes_sequences_frozen() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_sequences_frozen) as usize - ptr as usize
            },
            320usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bytes_sequences_frozen)
            )
        );
    }
    test_field_bytes_sequences_frozen();
    fn test_field_bytes_fixed_frozen() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_report>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_fixed_frozen) as usize - ptr as usize
            },
            328usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_report),
                "::",
                stringify!(bytes_fixed_frozen)
            )
        );
    }
    test_field_bytes_fixed_frozen();
}
impl Default for oscar_cache_report {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Says whether a configuration is served and predicts its memory exactly: bytes_sequences is what"]
    #[doc = " oscar_cache_stats_get reports when one sequence holds `context` tokens and a step for one more has begun."]
    #[doc = " Errors: INVALID (malformed configuration). An understood configuration that is not served is OSCAR_OK with"]
    #[doc = " served = 0 and the reason."]
    pub fn oscar_cache_check(
        config: *const oscar_cache_config,
        context: u64,
        report_out: *mut oscar_cache_report,
    ) -> oscar_status;
}
#[doc = " Transforms of one layer. All tensors F32 on the CPU."]
#[doc = "   key_transform    [n_kv_heads, key_dim, key_dim]      F: keys are stored as k F (row vectors), queries as q F^-T"]
#[doc = "   query_moment     [n_kv_heads, key_dim, key_dim]      E[q^T q] over the group's query heads, symmetric, positive"]
#[doc = "                    definite; absent: no shaped rounding"]
#[doc = "   value_transform  [n_kv_heads, value_dim, value_dim]  F_v: values are stored as v F_v, outputs undone by F_v^-1"]
#[doc = " An absent transform is the data-free one: the orthonormal Hadamard matrix of that size. Transforms need to be"]
#[doc = " invertible, not orthogonal."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibration_layer {
    pub struct_size: u32,
    pub n_kv_heads: u32,
    pub key_dim: u32,
    pub value_dim: u32,
    pub key_transform: oscar_tensor,
    pub query_moment: oscar_tensor,
    pub value_transform: oscar_tensor,
}
#[test]
fn bindgen_test_layout_oscar_calibration_layer() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibration_layer>(),
        280usize,
        concat!("Size of: ", stringify!(oscar_calibration_layer))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibration_layer>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibration_layer))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_kv_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_kv_heads) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(n_kv_heads)
            )
        );
    }
    test_field_n_kv_heads();
    fn test_field_key_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_dim) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(key_dim)
            )
        );
    }
    test_field_key_dim();
    fn test_field_value_dim() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_dim) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(value_dim)
            )
        );
    }
    test_field_value_dim();
    fn test_field_key_transform() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_transform) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(key_transform)
            )
        );
    }
    test_field_key_transform();
    fn test_field_query_moment() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).query_moment) as usize - ptr as usize
            },
            104usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(query_moment)
            )
        );
    }
    test_field_query_moment();
    fn test_field_value_transform() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_layer>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_transform) as usize - ptr as usize
            },
            192usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_layer),
                "::",
                stringify!(value_transform)
            )
        );
    }
    test_field_value_transform();
}
impl Default for oscar_calibration_layer {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub type oscar_calibration_source = u32;
#[doc = " oscar_calibration_create"]
pub const OSCAR_CALIBRATION_MATRICES: oscar_calibration_source_enum = 0;
#[doc = " oscar_calibration_default"]
pub const OSCAR_CALIBRATION_DATA_FREE: oscar_calibration_source_enum = 1;
#[doc = " oscar_calibration_identity"]
pub const OSCAR_CALIBRATION_IDENTITY: oscar_calibration_source_enum = 2;
#[doc = " published rotations"]
pub const OSCAR_CALIBRATION_IMPORTED: oscar_calibration_source_enum = 3;
#[doc = " oscar_calibrator_finish"]
pub const OSCAR_CALIBRATION_CALIBRATOR: oscar_calibration_source_enum = 4;
#[doc = " oscar_cache_freeze"]
pub const OSCAR_CALIBRATION_CACHE: oscar_calibration_source_enum = 5;
pub type oscar_calibration_source_enum = ::std::os::raw::c_uint;
#[doc = " What a calibration is. From n_heads on: as the file remembers it, and, of those that a calibrator or a cache made, for"]
#[doc = " what model and profile (of the first layer that packs), from how many tokens, for which positions."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibration_info {
    pub struct_size: u32,
    pub n_layers: u32,
    #[doc = " memory of the object"]
    pub bytes: u64,
    #[doc = " of its transforms; equal transforms, equal fingerprints"]
    pub fingerprint: u64,
    pub is_data_free: u32,
    #[doc = " 1: every KV head of every layer has a query moment"]
    pub is_shaped: u32,
    #[doc = " KV heads of all layers"]
    pub n_heads: u32,
    #[doc = " of these, with Hadamard transforms and plain rounding"]
    pub n_data_free_heads: u32,
    #[doc = " oscar_calibration_source"]
    pub source: u32,
    #[doc = " 1: moments are averaged over the positions to be served"]
    pub knows_rope: u32,
    #[doc = " whose keys counted, in the layer with the fewest"]
    pub n_tokens: u64,
    #[doc = " positions 0 .. n_positions - 1 are to be served"]
    pub n_positions: u64,
    #[doc = " tokens came from the positions before this one"]
    pub end_position: u64,
    pub n_refined: u32,
    pub refined_key_bits: u32,
    pub refined_value_bits: u32,
    pub reserved: u32,
    #[doc = " what the transforms minimise"]
    pub objective: [::std::os::raw::c_char; 64usize],
    pub model: [::std::os::raw::c_char; 64usize],
    pub note: [::std::os::raw::c_char; 128usize],
}
#[test]
fn bindgen_test_layout_oscar_calibration_info() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibration_info>(),
        344usize,
        concat!("Size of: ", stringify!(oscar_calibration_info))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibration_info>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibration_info))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_layers() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_layers) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_layers)
            )
        );
    }
    test_field_n_layers();
    fn test_field_bytes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(bytes)
            )
        );
    }
    test_field_bytes();
    fn test_field_fingerprint() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).fingerprint) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(fingerprint)
            )
        );
    }
    test_field_fingerprint();
    fn test_field_is_data_free() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).is_data_free) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(is_data_free)
            )
        );
    }
    test_field_is_data_free();
    fn test_field_is_shaped() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).is_shaped) as usize - ptr as usize
            },
            28usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(is_shaped)
            )
        );
    }
    test_field_is_shaped();
    fn test_field_n_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_heads) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_heads)
            )
        );
    }
    test_field_n_heads();
    fn test_field_n_data_free_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_data_free_heads) as usize - ptr as usize
            },
            36usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_data_free_heads)
            )
        );
    }
    test_field_n_data_free_heads();
    fn test_field_source() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).source) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(source)
            )
        );
    }
    test_field_source();
    fn test_field_knows_rope() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).knows_rope) as usize - ptr as usize
            },
            44usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(knows_rope)
            )
        );
    }
    test_field_knows_rope();
    fn test_field_n_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_tokens) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_tokens)
            )
        );
    }
    test_field_n_tokens();
    fn test_field_n_positions() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_positions) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_positions)
            )
        );
    }
    test_field_n_positions();
    fn test_field_end_position() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).end_position) as usize - ptr as usize
            },
            64usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(end_position)
            )
        );
    }
    test_field_end_position();
    fn test_field_n_refined() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_refined) as usize - ptr as usize
            },
            72usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(n_refined)
            )
        );
    }
    test_field_n_refined();
    fn test_field_refined_key_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_key_bits) as usize - ptr as usize
            },
            76usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(refined_key_bits)
            )
        );
    }
    test_field_refined_key_bits();
    fn test_field_refined_value_bits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).refined_value_bits) as usize - ptr as usize
            },
            80usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(refined_value_bits)
            )
        );
    }
    test_field_refined_value_bits();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            84usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_objective() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).objective) as usize - ptr as usize
            },
            88usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(objective)
            )
        );
    }
    test_field_objective();
    fn test_field_model() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).model) as usize - ptr as usize
            },
            152usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(model)
            )
        );
    }
    test_field_model();
    fn test_field_note() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).note) as usize - ptr as usize
            },
            216usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_info),
                "::",
                stringify!(note)
            )
        );
    }
    test_field_note();
}
impl Default for oscar_calibration_info {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[doc = " One KV head of a calibration."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_calibration_head_info {
    pub struct_size: u32,
    pub is_data_free: u32,
    #[doc = " 1: it has a query moment"]
    pub is_shaped: u32,
    #[doc = " 1: its value transform is a matrix"]
    pub has_own_values: u32,
    #[doc = " of its transforms, wherever the head stands; for comparing ranks and files"]
    pub fingerprint: u64,
}
#[test]
fn bindgen_test_layout_oscar_calibration_head_info() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibration_head_info>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_calibration_head_info))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibration_head_info>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibration_head_info))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_head_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_head_info),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_is_data_free() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_head_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).is_data_free) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_head_info),
                "::",
                stringify!(is_data_free)
            )
        );
    }
    test_field_is_data_free();
    fn test_field_is_shaped() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_head_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).is_shaped) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_head_info),
                "::",
                stringify!(is_shaped)
            )
        );
    }
    test_field_is_shaped();
    fn test_field_has_own_values() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_head_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).has_own_values) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_head_info),
                "::",
                stringify!(has_own_values)
            )
        );
    }
    test_field_has_own_values();
    fn test_field_fingerprint() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_head_info>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).fingerprint) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_head_info),
                "::",
                stringify!(fingerprint)
            )
        );
    }
    test_field_fingerprint();
}
#[doc = " Consecutive KV heads of one layer."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_calibration_part {
    pub layer: u32,
    pub first_kv_head: u32,
    pub n_kv_heads: u32,
}
#[test]
fn bindgen_test_layout_oscar_calibration_part() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibration_part>(),
        12usize,
        concat!("Size of: ", stringify!(oscar_calibration_part))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibration_part>(),
        4usize,
        concat!("Alignment of ", stringify!(oscar_calibration_part))
    );
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_part>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_part),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_first_kv_head() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_part>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).first_kv_head) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_part),
                "::",
                stringify!(first_kv_head)
            )
        );
    }
    test_field_first_kv_head();
    fn test_field_n_kv_heads() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_part>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_kv_heads) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_part),
                "::",
                stringify!(n_kv_heads)
            )
        );
    }
    test_field_n_kv_heads();
}
extern "C" {
    #[doc = " The data-free calibration of a configuration's geometry: Hadamard transforms, plain rounding."]
    pub fn oscar_calibration_default(
        config: *const oscar_cache_config,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " The identity: codes in the keys' own basis. For study and for tests."]
    pub fn oscar_calibration_identity(
        config: *const oscar_cache_config,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " From explicit matrices, which are copied. `layers` has n_layers entries."]
    #[doc = " Errors: INVALID (shapes, non-finite, singular or too ill-conditioned, moment not positive definite: the text names"]
    #[doc = " layer and head)."]
    pub fn oscar_calibration_create(
        layers: *const oscar_calibration_layer,
        n_layers: u32,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Serializes. bytes NULL: only size_out is written. Errors: INVALID (capacity smaller than *size_out)."]
    pub fn oscar_calibration_save(
        calibration: *const oscar_calibration,
        bytes: *mut ::std::os::raw::c_void,
        capacity: u64,
        size_out: *mut u64,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Reads what oscar_calibration_save wrote. Any bytes yield a status. Errors: CORRUPT (checksum, sizes, contents, or a"]
    #[doc = " version that this library does not read; the text says which)."]
    pub fn oscar_calibration_load(
        bytes: *const ::std::os::raw::c_void,
        size: u64,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
#[doc = " Files of rotations as torch.save writes them and the authors of OSCAR (arXiv 2605.17757) publish them."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibration_import_args {
    pub struct_size: u32,
    #[doc = " entries of layer_ids: 0, or n_layers of the configuration"]
    pub n_layer_ids: u32,
    #[doc = " the file of key rotations; NULL: data-free keys"]
    pub key_bytes: *const ::std::os::raw::c_void,
    #[doc = " bytes"]
    pub key_size: u64,
    #[doc = " the file of value rotations; NULL: data-free values"]
    pub value_bytes: *const ::std::os::raw::c_void,
    #[doc = " bytes"]
    pub value_size: u64,
    #[doc = " of every layer its id in the files; OSCAR_DEFAULT: a data-free layer. NULL: the files have"]
    #[doc = "the same layers, n_layers of them, and rising ids are layers 0, 1, ..."]
    pub layer_ids: *const u32,
}
#[test]
fn bindgen_test_layout_oscar_calibration_import_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibration_import_args>(),
        48usize,
        concat!("Size of: ", stringify!(oscar_calibration_import_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibration_import_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibration_import_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_layer_ids() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_layer_ids) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(n_layer_ids)
            )
        );
    }
    test_field_n_layer_ids();
    fn test_field_key_bytes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_bytes) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(key_bytes)
            )
        );
    }
    test_field_key_bytes();
    fn test_field_key_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).key_size) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(key_size)
            )
        );
    }
    test_field_key_size();
    fn test_field_value_bytes() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_bytes) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(value_bytes)
            )
        );
    }
    test_field_value_bytes();
    fn test_field_value_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).value_size) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(value_size)
            )
        );
    }
    test_field_value_size();
    fn test_field_layer_ids() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibration_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer_ids) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibration_import_args),
                "::",
                stringify!(layer_ids)
            )
        );
    }
    test_field_layer_ids();
}
impl Default for oscar_calibration_import_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Makes a calibration from published rotations. A rotation R, [d, d] for all KV heads of a layer or [n_kv_heads, d, d],"]
    #[doc = " is the layer's key_transform or value_transform as it is: it was made for rows k R. There are no query moments, so"]
    #[doc = " rounding is plain. Nothing in a file is executed, and any bytes yield a status. docs/calibration-import.md says what is"]
    #[doc = " read and what is checked."]
    #[doc = "   config  gives the layers and their heads"]
    #[doc = "   args    the bytes are borrowed for the call"]
    #[doc = " Errors: CORRUPT (bytes that torch.save does not write, or whose content is no rotation: not finite, not orthogonal; the"]
    #[doc = " text says what and where); UNSUPPORTED (compressed or zip64 archives, pickles that name anything but tensors, other"]
    #[doc = " formats); INVALID (arguments, or files that do not fit the configuration)."]
    pub fn oscar_calibration_import_torch(
        config: *const oscar_cache_config,
        args: *const oscar_calibration_import_args,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    pub fn oscar_calibration_info_get(
        calibration: *const oscar_calibration,
        info_out: *mut oscar_calibration_info,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Describes one KV head. Errors: INVALID (there is no such head)."]
    pub fn oscar_calibration_head_get(
        calibration: *const oscar_calibration,
        layer: u32,
        kv_head: u32,
        info_out: *mut oscar_calibration_head_info,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " The calibration of some layers and KV heads, e.g. of one rank under tensor or pipeline parallelism: its layer i is"]
    #[doc = " parts[i]. Heads keep their transforms and fingerprints."]
    #[doc = " Errors: INVALID (a part that is not there, or none)."]
    pub fn oscar_calibration_slice(
        calibration: *const oscar_calibration,
        parts: *const oscar_calibration_part,
        n_parts: u32,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " NULL is fine. A cache keeps what it needs: its calibration may be destroyed before it."]
    pub fn oscar_calibration_destroy(calibration: *mut oscar_calibration);
}
#[doc = " Some tokens of one sequence at consecutive positions, as one layer of the model has them. CPU tensors, F32, F16 or"]
#[doc = " BF16, any strides with the last dimension dense."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_calibrator_feed_args {
    pub struct_size: u32,
    pub layer: u32,
    #[doc = " of row 0; where it is not the last call's end, another sequence begins"]
    pub first_position: u64,
    #[doc = " [n, n_q_heads, key_dim], with positions (RoPE) already applied"]
    pub q: oscar_tensor,
    #[doc = " [n, n_kv_heads, key_dim], likewise; absent for a layer with kv_source"]
    pub k: oscar_tensor,
    #[doc = " [n, n_kv_heads, value_dim]; absent for a layer with kv_source"]
    pub v: oscar_tensor,
}
#[test]
fn bindgen_test_layout_oscar_calibrator_feed_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_calibrator_feed_args>(),
        280usize,
        concat!("Size of: ", stringify!(oscar_calibrator_feed_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_calibrator_feed_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_calibrator_feed_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_first_position() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).first_position) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(first_position)
            )
        );
    }
    test_field_first_position();
    fn test_field_q() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).q) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(q)
            )
        );
    }
    test_field_q();
    fn test_field_k() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).k) as usize - ptr as usize
            },
            104usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(k)
            )
        );
    }
    test_field_k();
    fn test_field_v() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_calibrator_feed_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).v) as usize - ptr as usize
            },
            192usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_calibrator_feed_args),
                "::",
                stringify!(v)
            )
        );
    }
    test_field_v();
}
impl Default for oscar_calibrator_feed_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Begins a calibration."]
    #[doc = "   config  the cache's: geometry, storage, kv_source, max_tokens and n_sink count, its calibration does not; borrowed"]
    #[doc = "           for the call"]
    #[doc = " Errors: INVALID."]
    pub fn oscar_calibrator_create(
        config: *const oscar_cache_config,
        args: *const oscar_calibrator_args,
        calibrator_out: *mut *mut oscar_calibrator,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Counts tokens of one layer, in any number of calls and any order of layers. The first n_sink positions of a sequence"]
    #[doc = " do not count: a cache keeps them exact. Neither do the last tokens of a sequence that fill less than half a block of"]
    #[doc = " 128 (their keys only)."]
    #[doc = " Errors: INVALID (shapes, an element that is not finite: nothing was counted)."]
    pub fn oscar_calibrator_feed(
        calibrator: *mut oscar_calibrator,
        args: *const oscar_calibrator_feed_args,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Solves for the key transform, the query moment and, unless Hadamard was asked for, the value transform of every KV"]
    #[doc = " head. A layer with exact storage or kv_source stores no blocks and gets no transforms; it need not be fed, but the"]
    #[doc = " queries of one with kv_source count for its source. Moments get 1e-3 of their mean eigenvalue on the diagonal: a few"]
    #[doc = " tokens, of lower rank than the head's dimension, are served. The calibrator can be fed on and finished again."]
    #[doc = " Errors: STATE (a layer was fed nothing or too little: less than 128 or key_dim keys; without frequencies, less than"]
    #[doc = " all positions); INVALID (keys that do not vary, queries or values that are zero). The text names layer and head."]
    pub fn oscar_calibrator_finish(
        calibrator: *const oscar_calibrator,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " NULL is fine."]
    pub fn oscar_calibrator_destroy(calibrator: *mut oscar_calibrator);
}
pub type oscar_cache_state = u32;
#[doc = " transforms are fixed, and what ages is packed"]
pub const OSCAR_CACHE_FROZEN: oscar_cache_state_enum = 0;
#[doc = " every token is exact, and moments are gathered for oscar_cache_freeze"]
pub const OSCAR_CACHE_COLLECTING: oscar_cache_state_enum = 1;
pub type oscar_cache_state_enum = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_cache_stats {
    pub struct_size: u32,
    pub n_sequences: u32,
    pub n_open_steps: u32,
    #[doc = " oscar_cache_state"]
    pub state: u32,
    #[doc = " accepted tokens of all sequences"]
    pub n_tokens: u64,
    #[doc = " summed over sequences: the most tokens that any one layer reads from blocks"]
    pub n_packed_tokens: u64,
    #[doc = " blocks of 128 tokens in use (reserved, while collecting), over all layer classes; shared ones"]
    #[doc = "count once"]
    pub n_blocks: u64,
    #[doc = " pages of 16 exact rows in use, over all layer classes"]
    pub n_exact_pages: u64,
    #[doc = " elements that were NaN or infinite when packed, and were stored as 0; also in steps that were aborted"]
    pub n_non_finite: u64,
    #[doc = " as in oscar_cache_report, for all sequences"]
    pub bytes_sequences: u64,
    pub bytes_fixed: u64,
    #[doc = " capacity in slabs that hold something of a sequence: bytes_sequences and free places for more"]
    #[doc = "of the same kind"]
    pub bytes_slabs: u64,
    #[doc = " capacity in empty slabs, free for anything"]
    pub bytes_free: u64,
    #[doc = " 8 bytes_sequences / elements of n_tokens; 0 without tokens"]
    pub bits_per_element: f64,
    #[doc = " part of bytes_fixed: the transforms, and what is gathered while collecting"]
    pub bytes_calibration: u64,
    #[doc = " of blocks: 2-bit codes, scales, means, headers, and the padding of a block"]
    pub bytes_base: u64,
    #[doc = " of blocks: refinement codes and ids"]
    pub bytes_refined: u64,
    #[doc = " pages of exact rows"]
    pub bytes_exact: u64,
    #[doc = " votes of tokens that are not packed yet"]
    pub bytes_scores: u64,
    #[doc = " where a sequence has its blocks and pages"]
    pub bytes_tables: u64,
    #[doc = " what would come on top if nobody shared blocks"]
    pub bytes_shared: u64,
    #[doc = " of n_blocks, those that more than one sequence holds"]
    pub n_shared_blocks: u64,
    #[doc = " holds of blocks by sequences (and open steps): n_blocks where nothing is shared"]
    pub n_block_references: u64,
    #[doc = " that have ended"]
    pub n_steps: u64,
    #[doc = " by steps that have begun or ended, and by freeze, over all layer classes"]
    pub n_blocks_packed: u64,
    #[doc = " truncate and accept calls that forgot tokens"]
    pub n_rollbacks: u64,
    #[doc = " by these"]
    pub n_tokens_forgotten: u64,
}
#[test]
fn bindgen_test_layout_oscar_cache_stats() {
    assert_eq!(
        ::std::mem::size_of::<oscar_cache_stats>(),
        200usize,
        concat!("Size of: ", stringify!(oscar_cache_stats))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_cache_stats>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_cache_stats))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_sequences() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_sequences) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_sequences)
            )
        );
    }
    test_field_n_sequences();
    fn test_field_n_open_steps() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_open_steps) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_open_steps)
            )
        );
    }
    test_field_n_open_steps();
    fn test_field_state() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).state) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(state)
            )
        );
    }
    test_field_state();
    fn test_field_n_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_tokens) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_tokens)
            )
        );
    }
    test_field_n_tokens();
    fn test_field_n_packed_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_packed_tokens) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_packed_tokens)
            )
        );
    }
    test_field_n_packed_tokens();
    fn test_field_n_blocks() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_blocks) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_blocks)
            )
        );
    }
    test_field_n_blocks();
    fn test_field_n_exact_pages() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_exact_pages) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_exact_pages)
            )
        );
    }
    test_field_n_exact_pages();
    fn test_field_n_non_finite() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_non_finite) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_non_finite)
            )
        );
    }
    test_field_n_non_finite();
    fn test_field_bytes_sequences() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_sequences) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_sequences)
            )
        );
    }
    test_field_bytes_sequences();
    fn test_field_bytes_fixed() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_fixed) as usize - ptr as usize
            },
            64usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_fixed)
            )
        );
    }
    test_field_bytes_fixed();
    fn test_field_bytes_slabs() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_slabs) as usize - ptr as usize
            },
            72usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_slabs)
            )
        );
    }
    test_field_bytes_slabs();
    fn test_field_bytes_free() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_free) as usize - ptr as usize
            },
            80usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_free)
            )
        );
    }
    test_field_bytes_free();
    fn test_field_bits_per_element() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bits_per_element) as usize - ptr as usize
            },
            88usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bits_per_element)
            )
        );
    }
    test_field_bits_per_element();
    fn test_field_bytes_calibration() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_calibration) as usize - ptr as usize
            },
            96usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_calibration)
            )
        );
    }
    test_field_bytes_calibration();
    fn test_field_bytes_base() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_base) as usize - ptr as usize
            },
            104usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_base)
            )
        );
    }
    test_field_bytes_base();
    fn test_field_bytes_refined() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_refined) as usize - ptr as usize
            },
            112usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_refined)
            )
        );
    }
    test_field_bytes_refined();
    fn test_field_bytes_exact() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_exact) as usize - ptr as usize
            },
            120usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_exact)
            )
        );
    }
    test_field_bytes_exact();
    fn test_field_bytes_scores() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_scores) as usize - ptr as usize
            },
            128usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_scores)
            )
        );
    }
    test_field_bytes_scores();
    fn test_field_bytes_tables() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_tables) as usize - ptr as usize
            },
            136usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_tables)
            )
        );
    }
    test_field_bytes_tables();
    fn test_field_bytes_shared() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).bytes_shared) as usize - ptr as usize
            },
            144usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(bytes_shared)
            )
        );
    }
    test_field_bytes_shared();
    fn test_field_n_shared_blocks() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_shared_blocks) as usize - ptr as usize
            },
            152usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_shared_blocks)
            )
        );
    }
    test_field_n_shared_blocks();
    fn test_field_n_block_references() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_block_references) as usize - ptr as usize
            },
            160usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_block_references)
            )
        );
    }
    test_field_n_block_references();
    fn test_field_n_steps() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_steps) as usize - ptr as usize
            },
            168usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_steps)
            )
        );
    }
    test_field_n_steps();
    fn test_field_n_blocks_packed() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_blocks_packed) as usize - ptr as usize
            },
            176usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_blocks_packed)
            )
        );
    }
    test_field_n_blocks_packed();
    fn test_field_n_rollbacks() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_rollbacks) as usize - ptr as usize
            },
            184usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_rollbacks)
            )
        );
    }
    test_field_n_rollbacks();
    fn test_field_n_tokens_forgotten() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_cache_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_tokens_forgotten) as usize - ptr as usize
            },
            192usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_cache_stats),
                "::",
                stringify!(n_tokens_forgotten)
            )
        );
    }
    test_field_n_tokens_forgotten();
}
extern "C" {
    #[doc = " Creates a cache. Takes all memory it will ever need: capacity_bytes, workspace, tables. (With self_calibrate:"]
    #[doc = " oscar_cache_freeze takes more.)"]
    #[doc = " Errors: INVALID, UNSUPPORTED (the reason of oscar_cache_check), NO_MEMORY, BACKEND."]
    pub fn oscar_cache_create(
        config: *const oscar_cache_config,
        cache_out: *mut *mut oscar_cache,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Closes everything; NULL is fine."]
    pub fn oscar_cache_destroy(cache: *mut oscar_cache);
}
extern "C" {
    pub fn oscar_cache_stats_get(
        cache: *const oscar_cache,
        stats_out: *mut oscar_cache_stats,
    ) -> oscar_status;
}
#[doc = " What was packed of one layer since the cache was created, by any of its sequences. An element is clipped where it lies"]
#[doc = " beyond the outermost level's cell of its token's code: 4.6 % of a Gaussian's at 2 bits. A block is worse where its transform is"]
#[doc = " expected to lead to a larger error than a data-free one: the calibration was made from another distribution"]
#[doc = " (docs/serving.md). The differences of two looks give the recent shares."]
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_layer_stats {
    pub struct_size: u32,
    #[doc = " 0"]
    pub reserved: u32,
    #[doc = " packed, of each KV head by itself"]
    pub n_blocks: u64,
    #[doc = " packed"]
    pub n_key_elements: u64,
    #[doc = " of these"]
    pub n_keys_clipped: u64,
    #[doc = " of n_blocks, by their keys; 0 for heads whose keys are data-free"]
    pub n_keys_worse: u64,
    #[doc = " likewise of values"]
    pub n_value_elements: u64,
    pub n_values_clipped: u64,
    pub n_values_worse: u64,
    #[doc = " elements of both that were NaN or infinite, and were stored as 0"]
    pub n_non_finite: u64,
}
#[test]
fn bindgen_test_layout_oscar_layer_stats() {
    assert_eq!(
        ::std::mem::size_of::<oscar_layer_stats>(),
        72usize,
        concat!("Size of: ", stringify!(oscar_layer_stats))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_layer_stats>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_layer_stats))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_n_blocks() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_blocks) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_blocks)
            )
        );
    }
    test_field_n_blocks();
    fn test_field_n_key_elements() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_key_elements) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_key_elements)
            )
        );
    }
    test_field_n_key_elements();
    fn test_field_n_keys_clipped() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_keys_clipped) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_keys_clipped)
            )
        );
    }
    test_field_n_keys_clipped();
    fn test_field_n_keys_worse() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_keys_worse) as usize - ptr as usize
            },
            32usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_keys_worse)
            )
        );
    }
    test_field_n_keys_worse();
    fn test_field_n_value_elements() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_value_elements) as usize - ptr as usize
            },
            40usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_value_elements)
            )
        );
    }
    test_field_n_value_elements();
    fn test_field_n_values_clipped() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_values_clipped) as usize - ptr as usize
            },
            48usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_values_clipped)
            )
        );
    }
    test_field_n_values_clipped();
    fn test_field_n_values_worse() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_values_worse) as usize - ptr as usize
            },
            56usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_values_worse)
            )
        );
    }
    test_field_n_values_worse();
    fn test_field_n_non_finite() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_stats>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_non_finite) as usize - ptr as usize
            },
            64usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_stats),
                "::",
                stringify!(n_non_finite)
            )
        );
    }
    test_field_n_non_finite();
}
extern "C" {
    #[doc = " Counts of one layer; all 0 for one that is exact or has a kv_source: it packs nothing."]
    #[doc = " Errors: INVALID (there is no such layer); UNSUPPORTED (a cache on a device, whose kernels pack there and do not count)."]
    pub fn oscar_layer_stats_get(
        cache: *const oscar_cache,
        layer: u32,
        stats_out: *mut oscar_layer_stats,
    ) -> oscar_status;
}
pub type oscar_log_level = u32;
pub const OSCAR_LOG_INFO: oscar_log_level_enum = 1;
#[doc = " all is well defined, and somebody should know"]
pub const OSCAR_LOG_WARNING: oscar_log_level_enum = 2;
pub type oscar_log_level_enum = ::std::os::raw::c_uint;
pub type oscar_log_event = u32;
#[doc = " INFO: what oscar_cache_freeze has made"]
pub const OSCAR_EVENT_FREEZE: oscar_log_event_enum = 1;
#[doc = " WARNING: KV heads of a layer that freeze left data-free, and why"]
pub const OSCAR_EVENT_DATA_FREE: oscar_log_event_enum = 2;
#[doc = " WARNING: a call was refused with NO_SPACE; the text is oscar_last_error's"]
pub const OSCAR_EVENT_NO_SPACE: oscar_log_event_enum = 3;
#[doc = " WARNING: elements of a layer that were NaN or infinite were packed as 0. CPU only"]
pub const OSCAR_EVENT_NON_FINITE: oscar_log_event_enum = 4;
#[doc = " WARNING: of the 16 or more blocks of a layer packed last, most are worse"]
#[doc = "(oscar_layer_stats); again only after they were not. CPU only"]
pub const OSCAR_EVENT_DRIFT: oscar_log_event_enum = 5;
pub type oscar_log_event_enum = ::std::os::raw::c_uint;
#[doc = " One thing that has happened."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_log_record {
    pub struct_size: u32,
    #[doc = " oscar_log_level"]
    pub level: u32,
    #[doc = " oscar_log_event"]
    pub event: u32,
    #[doc = " OSCAR_DEFAULT: of no one layer"]
    pub layer: u32,
    #[doc = " UTF-8, one line, without a line break; valid until the call returns"]
    pub text: *const ::std::os::raw::c_char,
}
#[test]
fn bindgen_test_layout_oscar_log_record() {
    assert_eq!(
        ::std::mem::size_of::<oscar_log_record>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_log_record))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_log_record>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_log_record))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_record>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_record),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_level() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_record>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).level) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_record),
                "::",
                stringify!(level)
            )
        );
    }
    test_field_level();
    fn test_field_event() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_record>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).event) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_record),
                "::",
                stringify!(event)
            )
        );
    }
    test_field_event();
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_record>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_record),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_text() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_record>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).text) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_record),
                "::",
                stringify!(text)
            )
        );
    }
    test_field_text();
}
impl Default for oscar_log_record {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[doc = " Where a cache's records go."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_log_args {
    pub struct_size: u32,
    #[doc = " oscar_log_level: records of this level and above; 0: all"]
    pub min_level: u32,
    #[doc = " for `write`"]
    pub user: *mut ::std::os::raw::c_void,
    #[doc = " Is called on the thread of the call that has something to tell, when that call has done its work, before it returns;"]
    #[doc = " nothing is locked. It may make calls that take a `const oscar_cache *` of this cache, and any of others. It must return:"]
    #[doc = " a C++ exception that leaves it is dropped. NULL: nowhere"]
    pub write: ::std::option::Option<
        unsafe extern "C" fn(user: *mut ::std::os::raw::c_void, record: *const oscar_log_record),
    >,
}
#[test]
fn bindgen_test_layout_oscar_log_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_log_args>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_log_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_log_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_log_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_min_level() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).min_level) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_args),
                "::",
                stringify!(min_level)
            )
        );
    }
    test_field_min_level();
    fn test_field_user() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).user) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_args),
                "::",
                stringify!(user)
            )
        );
    }
    test_field_user();
    fn test_field_write() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_log_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).write) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_log_args),
                "::",
                stringify!(write)
            )
        );
    }
    test_field_write();
}
impl Default for oscar_log_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Tells a cache where its records go from now on; a new one has nowhere. Each cache has a place of its own, and caches on"]
    #[doc = " several threads may share one that locks. The library writes nowhere else."]
    #[doc = " Errors: INVALID (min_level)."]
    pub fn oscar_cache_log_set(
        cache: *mut oscar_cache,
        args: *const oscar_log_args,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Ends COLLECTING. A cache with self_calibrate keeps every token exact at first and gathers, within attend and step_end,"]
    #[doc = " the moments that a calibrator gathers: keys and values of whole blocks of 128 tokens (counted from n_sink on; the last 64"]
    #[doc = " and more of a sequence count too), queries of tokens that are no drafts. A token's position is its index in its sequence."]
    #[doc = " One block in four is held out. Freeze solves for the transforms of every KV head with the others, packs the held-out keys"]
    #[doc = " and values both ways, keeps the new transform where its error is smaller than the data-free one's (then from all tokens),"]
    #[doc = " keys and values apart, and packs what has aged: from then on this is a cache like any other, with the same sequences. A"]
    #[doc = " head that no transform can be made for stays data-free. The refined tokens are those that votes chose when the block"]
    #[doc = " aged. While collecting, a cache takes memory beyond its own for the length of an attend or step_end, and NO_SPACE comes"]
    #[doc = " as soon as the exact rows fill capacity_bytes: nothing is lost then, and freeze makes room. Freeze may take seconds, and"]
    #[doc = " needs memory for a while: about what the calibration takes, twice."]
    #[doc = "   calibration_out  NULL, or gets the calibration that the cache now uses, to be saved and destroyed by the caller"]
    #[doc = " Errors, which change nothing: STATE (not created with self_calibrate, frozen already, a step is open, too few tokens: a"]
    #[doc = " sequence of n_sink + 192 has enough for a key_dim of up to 128; without rope_frequencies, positions to be served that no"]
    #[doc = " token has had); NO_MEMORY."]
    pub fn oscar_cache_freeze(
        cache: *mut oscar_cache,
        calibration_out: *mut *mut oscar_calibration,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " An estimate of how many tokens a new sequence could be given now, one at a time, before a step is refused with"]
    #[doc = " NO_SPACE. Longer steps reserve more at once, and free places in slabs of other kinds cannot always be used: leave a"]
    #[doc = " margin of a step and a few slabs."]
    pub fn oscar_cache_capacity(cache: *const oscar_cache, n_tokens_out: *mut u64) -> oscar_status;
}
extern "C" {
    #[doc = " Opens an empty sequence. Errors: NO_SPACE (max_sequences, or the pool)."]
    pub fn oscar_seq_open(cache: *mut oscar_cache, seq_out: *mut oscar_seq) -> oscar_status;
}
extern "C" {
    #[doc = " Frees a sequence and what it shares with nobody. Errors: NOT_FOUND; STATE (in an open step)."]
    pub fn oscar_seq_close(cache: *mut oscar_cache, seq: oscar_seq) -> oscar_status;
}
extern "C" {
    #[doc = " A new sequence with the first n_tokens of `parent`: blocks are shared, exact rows copied."]
    #[doc = " Errors: NOT_FOUND; STATE (in an open step, or a sliding window has already dropped tokens that the child would see);"]
    #[doc = " INVALID (n_tokens > length); NO_SPACE."]
    pub fn oscar_seq_fork(
        cache: *mut oscar_cache,
        parent: oscar_seq,
        n_tokens: u64,
        child_out: *mut oscar_seq,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Forgets every token from index n_tokens on. Tokens that stay keep their bits; for rejected drafts the sequence is"]
    #[doc = " then bit for bit as if they had never been appended. Errors: as for fork."]
    pub fn oscar_seq_truncate(
        cache: *mut oscar_cache,
        seq: oscar_seq,
        n_tokens: u64,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Keeps an accepted path of a drafted tree: of the tokens from index `base` on, those at base + indices[0..n-1] stay"]
    #[doc = " and move to base .. base+n-1; the others are forgotten. indices ascend strictly."]
    #[doc = " Errors: as for truncate; STATE (a token from base on is packed already, dropped by a window, or its votes are counted)."]
    pub fn oscar_seq_accept(
        cache: *mut oscar_cache,
        seq: oscar_seq,
        base: u64,
        n: u32,
        indices: *const u32,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Number of accepted tokens."]
    pub fn oscar_seq_length(
        cache: *const oscar_cache,
        seq: oscar_seq,
        n_tokens_out: *mut u64,
    ) -> oscar_status;
}
#[doc = " Where an exported sequence goes, piece after piece."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_export_args {
    pub struct_size: u32,
    #[doc = " 0"]
    pub reserved: u32,
    #[doc = " the first n_tokens of the sequence; 0: all"]
    pub n_tokens: u64,
    #[doc = " for `write`"]
    pub user: *mut ::std::os::raw::c_void,
    #[doc = " Takes the next `size` bytes. Anything but OSCAR_OK ends the export, which then fails with that status. It must not"]
    #[doc = " call the library with this cache. NULL: nothing is written, only size_out"]
    pub write: ::std::option::Option<
        unsafe extern "C" fn(
            user: *mut ::std::os::raw::c_void,
            bytes: *const ::std::os::raw::c_void,
            size: u64,
        ) -> oscar_status,
    >,
}
#[test]
fn bindgen_test_layout_oscar_export_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_export_args>(),
        32usize,
        concat!("Size of: ", stringify!(oscar_export_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_export_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_export_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_export_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_export_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_export_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_export_args),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_n_tokens() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_export_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_tokens) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_export_args),
                "::",
                stringify!(n_tokens)
            )
        );
    }
    test_field_n_tokens();
    fn test_field_user() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_export_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).user) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_export_args),
                "::",
                stringify!(user)
            )
        );
    }
    test_field_user();
    fn test_field_write() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_export_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).write) as usize - ptr as usize
            },
            24usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_export_args),
                "::",
                stringify!(write)
            )
        );
    }
    test_field_write();
}
impl Default for oscar_export_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[doc = " Where the bytes of an exported sequence come from."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_import_args {
    pub struct_size: u32,
    #[doc = " 0"]
    pub reserved: u32,
    #[doc = " for `read`"]
    pub user: *mut ::std::os::raw::c_void,
    #[doc = " Fills all of the next `size` bytes. Anything but OSCAR_OK (OSCAR_E_CORRUPT where there are no more bytes) ends the"]
    #[doc = " import, which then fails with that status. It must not call the library with this cache"]
    pub read: ::std::option::Option<
        unsafe extern "C" fn(
            user: *mut ::std::os::raw::c_void,
            bytes: *mut ::std::os::raw::c_void,
            size: u64,
        ) -> oscar_status,
    >,
}
#[test]
fn bindgen_test_layout_oscar_import_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_import_args>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_import_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_import_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_import_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_import_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_import_args),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
    fn test_field_user() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).user) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_import_args),
                "::",
                stringify!(user)
            )
        );
    }
    test_field_user();
    fn test_field_read() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_import_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).read) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_import_args),
                "::",
                stringify!(read)
            )
        );
    }
    test_field_read();
}
impl Default for oscar_import_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Writes a sequence, or a prefix of it, as bytes that say what they are: geometry, profile, the calibration's fingerprint,"]
    #[doc = " checksums (docs/export.md). Equal sequences give equal bytes. Streams: takes memory for one piece, of one block of 128"]
    #[doc = " tokens in all layers of a class, not for a copy of the sequence. The bytes hold codes and exact rows of the model's"]
    #[doc = " keys and values: as secret as the text."]
    #[doc = "   size_out  bytes of the whole export; 0 where it fails"]
    #[doc = " Errors: NOT_FOUND; STATE (in an open step; the cache is collecting; a sliding window has dropped tokens that a sequence"]
    #[doc = " of n_tokens would see); INVALID (n_tokens > length); UNSUPPORTED (a cache on a device); NO_MEMORY; what `write` gave:"]
    #[doc = " what was written is then no export."]
    pub fn oscar_seq_export(
        cache: *const oscar_cache,
        seq: oscar_seq,
        args: *const oscar_export_args,
        size_out: *mut u64,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Opens a sequence from what oscar_seq_export wrote, by a cache of any capacity, limits and backend whose layers, n_sink,"]
    #[doc = " n_recent, max_rollback and calibration are the same. It goes on as the exported one would have. Reads the export's bytes"]
    #[doc = " and none behind them; any bytes yield a status, and memory for one piece and the pool's units is all that is taken."]
    #[doc = " Errors, which change nothing: CORRUPT (not an export, another version, damaged; the text says what); INVALID (an export of"]
    #[doc = " another geometry, profile or calibration: the text says which and what was wanted); NO_SPACE (max_sequences, max_tokens"]
    #[doc = " or the pool, with the bytes short); STATE (the cache is collecting); UNSUPPORTED (a cache on a device); NO_MEMORY; what"]
    #[doc = " `read` gave."]
    pub fn oscar_seq_import(
        cache: *mut oscar_cache,
        args: *const oscar_import_args,
        seq_out: *mut oscar_seq,
    ) -> oscar_status;
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct oscar_step_entry {
    #[doc = " 0: padding rows"]
    pub seq: oscar_seq,
    #[doc = " tokens that this step appends, drafts included; >= 1"]
    pub n_new: u32,
    #[doc = " the last n_draft of them may be rejected: n_draft < max_rollback, n_draft <= n_new; or"]
    #[doc = "OSCAR_QUERY_ONLY"]
    pub n_draft: u32,
}
#[test]
fn bindgen_test_layout_oscar_step_entry() {
    assert_eq!(
        ::std::mem::size_of::<oscar_step_entry>(),
        16usize,
        concat!("Size of: ", stringify!(oscar_step_entry))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_step_entry>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_step_entry))
    );
    fn test_field_seq() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_entry>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).seq) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_entry),
                "::",
                stringify!(seq)
            )
        );
    }
    test_field_seq();
    fn test_field_n_new() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_entry>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_new) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_entry),
                "::",
                stringify!(n_new)
            )
        );
    }
    test_field_n_new();
    fn test_field_n_draft() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_entry>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_draft) as usize - ptr as usize
            },
            12usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_entry),
                "::",
                stringify!(n_draft)
            )
        );
    }
    test_field_n_draft();
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_step_args {
    pub struct_size: u32,
    #[doc = " each sequence at most once, except 0"]
    pub n_entries: u32,
    pub entries: *const oscar_step_entry,
    #[doc = " 1: a CUDA graph does the work of the layers, see below; else 0"]
    pub is_replay: u32,
    pub reserved: u32,
}
#[test]
fn bindgen_test_layout_oscar_step_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_step_args>(),
        24usize,
        concat!("Size of: ", stringify!(oscar_step_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_step_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_step_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_n_entries() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).n_entries) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_args),
                "::",
                stringify!(n_entries)
            )
        );
    }
    test_field_n_entries();
    fn test_field_entries() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).entries) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_args),
                "::",
                stringify!(entries)
            )
        );
    }
    test_field_entries();
    fn test_field_is_replay() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).is_replay) as usize - ptr as usize
            },
            16usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_args),
                "::",
                stringify!(is_replay)
            )
        );
    }
    test_field_is_replay();
    fn test_field_reserved() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_step_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).reserved) as usize - ptr as usize
            },
            20usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_step_args),
                "::",
                stringify!(reserved)
            )
        );
    }
    test_field_reserved();
}
impl Default for oscar_step_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Begins a step. First packs what has aged past the recent window of its sequences, by accepted length; then reserves"]
    #[doc = " every block and page that the pass can need in all layers, or fails having changed nothing. Rows of the step's tensors"]
    #[doc = " are the entries' new tokens, one entry after the other: row count = sum of n_new."]
    #[doc = " CUDA graphs: within a step of at most 128 sure tokens a sequence, the append, attend and layer calls of all layers may be"]
    #[doc = " captured, and the graph launched for this step and for later ones. Those begin with is_replay = 1 and take no append,"]
    #[doc = " attend or layer calls; they must have as many entries with the same n_new, one after the other; which sequences these"]
    #[doc = " are, padding included, and how long, does not matter. With max_open_steps > 1 a graph belongs to the order in which its"]
    #[doc = " step was opened. begin, end, truncate and fork are never captured."]
    #[doc = " Errors: NO_SPACE; NOT_FOUND; STATE (a sequence is in another open step, no step slot is free, or is_replay while the"]
    #[doc = " cache is collecting); INVALID; UNSUPPORTED (OSCAR_QUERY_ONLY with a sliding window: its positions are another cache's)."]
    pub fn oscar_step_begin(
        cache: *mut oscar_cache,
        args: *const oscar_step_args,
        stream: oscar_stream,
        step_out: *mut oscar_step,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Commits: the new tokens now belong to their sequences."]
    #[doc = " Errors: NOT_FOUND; STATE (a layer has not been given its keys and values; the step stays open)."]
    pub fn oscar_step_end(cache: *mut oscar_cache, step: oscar_step) -> oscar_status;
}
extern "C" {
    #[doc = " Drops the step: every sequence is as it was after what begin does for accepted tokens: packing, and, where the step had"]
    #[doc = " more than max_rollback sure tokens, counting the votes of all accepted queries, which can then no longer be taken back."]
    pub fn oscar_step_abort(cache: *mut oscar_cache, step: oscar_step) -> oscar_status;
}
#[doc = " F32, F16 or BF16; any strides with the last dimension dense. n = rows of the step."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_append_args {
    pub struct_size: u32,
    pub layer: u32,
    #[doc = " [n, n_kv_heads, key_dim], with positions (RoPE) already applied"]
    pub k: oscar_tensor,
    #[doc = " [n, n_kv_heads, value_dim]"]
    pub v: oscar_tensor,
}
#[test]
fn bindgen_test_layout_oscar_append_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_append_args>(),
        184usize,
        concat!("Size of: ", stringify!(oscar_append_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_append_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_append_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_append_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_append_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_append_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_append_args),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_k() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_append_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).k) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_append_args),
                "::",
                stringify!(k)
            )
        );
    }
    test_field_k();
    fn test_field_v() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_append_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).v) as usize - ptr as usize
            },
            96usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_append_args),
                "::",
                stringify!(v)
            )
        );
    }
    test_field_v();
}
impl Default for oscar_append_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Stores the step's keys and values of one layer, rounded to BF16. Neither allocates nor blocks. Calling it again for"]
    #[doc = " the same layer before its attention overwrites. A layer with kv_source takes no append."]
    #[doc = " Errors: NOT_FOUND; INVALID; STATE."]
    pub fn oscar_append(
        cache: *mut oscar_cache,
        step: oscar_step,
        args: *const oscar_append_args,
        stream: oscar_stream,
    ) -> oscar_status;
}
#[doc = " out = softmax(softcap(scale q k^T) + causal/window/tree mask) v, over the sequence and the step's own tokens."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_attend_args {
    pub struct_size: u32,
    pub layer: u32,
    #[doc = " [n, n_q_heads, key_dim] F32, F16 or BF16"]
    pub q: oscar_tensor,
    #[doc = " [n, n_q_heads, value_dim] F32, F16 or BF16"]
    pub out: oscar_tensor,
    #[doc = " optional, [n, n_q_heads] F32: natural log of the softmax denominator, sink included"]
    pub lse: oscar_tensor,
    #[doc = " optional, [n_q_heads] F32: a learned logit whose value is zero"]
    pub sink_logits: oscar_tensor,
    #[doc = " optional, [n, max n_new] UINT8: row i of an entry attends to the entry's new token j < i"]
    #[doc = "where mask[row][j] != 0, and always to itself. Absent: the chain (causal)"]
    pub mask: oscar_tensor,
    #[doc = " 0: 1/sqrt(key_dim)"]
    pub scale: f32,
    #[doc = " c > 0: logits become c tanh(logit / c); 0: off"]
    pub softcap: f32,
}
#[test]
fn bindgen_test_layout_oscar_attend_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_attend_args>(),
        456usize,
        concat!("Size of: ", stringify!(oscar_attend_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_attend_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_attend_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_q() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).q) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(q)
            )
        );
    }
    test_field_q();
    fn test_field_out() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).out) as usize - ptr as usize
            },
            96usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(out)
            )
        );
    }
    test_field_out();
    fn test_field_lse() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).lse) as usize - ptr as usize
            },
            184usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(lse)
            )
        );
    }
    test_field_lse();
    fn test_field_sink_logits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).sink_logits) as usize - ptr as usize
            },
            272usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(sink_logits)
            )
        );
    }
    test_field_sink_logits();
    fn test_field_mask() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).mask) as usize - ptr as usize
            },
            360usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(mask)
            )
        );
    }
    test_field_mask();
    fn test_field_scale() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).scale) as usize - ptr as usize
            },
            448usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(scale)
            )
        );
    }
    test_field_scale();
    fn test_field_softcap() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_attend_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).softcap) as usize - ptr as usize
            },
            452usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_attend_args),
                "::",
                stringify!(softcap)
            )
        );
    }
    test_field_softcap();
}
impl Default for oscar_attend_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " Attention of one layer. Neither allocates nor blocks. In a step of more than 128 new tokens of a sequence, the tokens"]
    #[doc = " that age within the step are packed here, after the layer's last attention."]
    #[doc = " Errors: NOT_FOUND; INVALID; STATE (the layer has no keys yet in this step, or they have left the scratch)."]
    pub fn oscar_attend(
        cache: *mut oscar_cache,
        step: oscar_step,
        args: *const oscar_attend_args,
        stream: oscar_stream,
    ) -> oscar_status;
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct oscar_layer_args {
    pub struct_size: u32,
    pub layer: u32,
    pub k: oscar_tensor,
    pub v: oscar_tensor,
    pub q: oscar_tensor,
    pub out: oscar_tensor,
    pub lse: oscar_tensor,
    pub sink_logits: oscar_tensor,
    pub mask: oscar_tensor,
    pub scale: f32,
    pub softcap: f32,
}
#[test]
fn bindgen_test_layout_oscar_layer_args() {
    assert_eq!(
        ::std::mem::size_of::<oscar_layer_args>(),
        632usize,
        concat!("Size of: ", stringify!(oscar_layer_args))
    );
    assert_eq!(
        ::std::mem::align_of::<oscar_layer_args>(),
        8usize,
        concat!("Alignment of ", stringify!(oscar_layer_args))
    );
    fn test_field_struct_size() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).struct_size) as usize - ptr as usize
            },
            0usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(struct_size)
            )
        );
    }
    test_field_struct_size();
    fn test_field_layer() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).layer) as usize - ptr as usize
            },
            4usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(layer)
            )
        );
    }
    test_field_layer();
    fn test_field_k() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).k) as usize - ptr as usize
            },
            8usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(k)
            )
        );
    }
    test_field_k();
    fn test_field_v() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).v) as usize - ptr as usize
            },
            96usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(v)
            )
        );
    }
    test_field_v();
    fn test_field_q() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).q) as usize - ptr as usize
            },
            184usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(q)
            )
        );
    }
    test_field_q();
    fn test_field_out() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).out) as usize - ptr as usize
            },
            272usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(out)
            )
        );
    }
    test_field_out();
    fn test_field_lse() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).lse) as usize - ptr as usize
            },
            360usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(lse)
            )
        );
    }
    test_field_lse();
    fn test_field_sink_logits() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).sink_logits) as usize - ptr as usize
            },
            448usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(sink_logits)
            )
        );
    }
    test_field_sink_logits();
    fn test_field_mask() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).mask) as usize - ptr as usize
            },
            536usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(mask)
            )
        );
    }
    test_field_mask();
    fn test_field_scale() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).scale) as usize - ptr as usize
            },
            624usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(scale)
            )
        );
    }
    test_field_scale();
    fn test_field_softcap() {
        assert_eq!(
            unsafe {
                let uninit = ::std::mem::MaybeUninit::<oscar_layer_args>::uninit();
                let ptr = uninit.as_ptr();
                ::std::ptr::addr_of!((*ptr).softcap) as usize - ptr as usize
            },
            628usize,
            concat!(
                "Offset of field: ",
                stringify!(oscar_layer_args),
                "::",
                stringify!(softcap)
            )
        );
    }
    test_field_softcap();
}
impl Default for oscar_layer_args {
    fn default() -> Self {
        let mut s = ::std::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::std::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
extern "C" {
    #[doc = " oscar_append and oscar_attend in one call. All arguments are checked before anything is written."]
    pub fn oscar_layer(
        cache: *mut oscar_cache,
        step: oscar_step,
        args: *const oscar_layer_args,
        stream: oscar_stream,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Keys and values of tokens [first, first + n) of one KV head as attention sees them, in the model's own basis."]
    #[doc = "   k_out  [n, key_dim] or absent, v_out [n, value_dim] or absent; F32, F16 or BF16"]
    #[doc = " Errors: NOT_FOUND; INVALID (range); STATE (the window has dropped some of them)."]
    pub fn oscar_read(
        cache: *const oscar_cache,
        seq: oscar_seq,
        layer: u32,
        kv_head: u32,
        first: u64,
        n: u64,
        k_out: *const oscar_tensor,
        v_out: *const oscar_tensor,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Importance of tokens [first, first + n) of one KV head. A token that is not packed yet: the attention mass it has"]
    #[doc = " received, summed over the query heads of its KV head. A packed token: +infinity where it was refined, else 0 (and so where"]
    #[doc = " a collecting cache has reserved its block). Exact for ever (sinks): 0."]
    #[doc = "   scores_out  [n] F32"]
    #[doc = " Errors: NOT_FOUND; INVALID; STATE (this layer's profile makes no choice: n_refined is 0 or 128, or exact storage; or the"]
    #[doc = " window has dropped some of the tokens)."]
    pub fn oscar_scores(
        cache: *const oscar_cache,
        seq: oscar_seq,
        layer: u32,
        kv_head: u32,
        first: u64,
        n: u64,
        scores_out: *const oscar_tensor,
    ) -> oscar_status;
}
extern "C" {
    #[doc = " Joins attention over disjoint sets of tokens (context parallelism):"]
    #[doc = "     lse = log sum_p exp(lse_p),   out = sum_p exp(lse_p - lse) out_p"]
    #[doc = "   outs      [n_parts, ..., d]  F32, up to 4 dimensions, dense"]
    #[doc = "   lses      [n_parts, ...]     F32, dense"]
    #[doc = "   out, lse  the same without the first dimension, F32, dense; lse may be absent, and is [1] where outs is [n_parts, d]"]
    #[doc = " A row whose parts are all empty (lse -infinity) gives 0 and -infinity. Parts with lse +infinity outweigh all others and"]
    #[doc = " share equally; their row's lse is +infinity. A NaN among the lses makes its row NaN, and no other."]
    pub fn oscar_merge(
        outs: *const oscar_tensor,
        lses: *const oscar_tensor,
        out: *const oscar_tensor,
        lse: *const oscar_tensor,
        stream: oscar_stream,
    ) -> oscar_status;
}
