//! Borrowed views of the caller's numbers.

use std::marker::PhantomData;
use std::os::raw::c_void;
use std::ptr;

use crate::config::Device;
use crate::error::{Error, Result};
use crate::sys;

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// The upper 16 bits of a 32-bit IEEE float.
    Bf16,
    /// Unsigned byte: masks.
    U8,
}

impl Dtype {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U8 => 1,
        }
    }

    fn code_and_bits(self) -> (u8, u8) {
        match self {
            Dtype::F32 => (sys::OSCAR_DTYPE_FLOAT as u8, 32),
            Dtype::F16 => (sys::OSCAR_DTYPE_FLOAT as u8, 16),
            Dtype::Bf16 => (sys::OSCAR_DTYPE_BFLOAT as u8, 16),
            Dtype::U8 => (sys::OSCAR_DTYPE_UINT as u8, 8),
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that tensors are made of: `f32` and `u8`, and with feature `half` `half::f16` and `half::bf16`.
pub trait Element: Copy + sealed::Sealed {
    /// What it is to the library.
    const DTYPE: Dtype;
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {
        $(
            impl sealed::Sealed for $type {}
            impl Element for $type {
                const DTYPE: Dtype = Dtype::$dtype;
            }
        )*
    };
}

element!(f32 => F32, u8 => U8);
#[cfg(feature = "half")]
element!(half::f16 => F16, half::bf16 => Bf16);

/// An input: a view of numbers that a call reads. `Copy`, and no larger than needed.
///
/// Shapes have 1 to 4 dimensions. In a dense tensor the last dimension is the fastest.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    raw: sys::oscar_tensor,
    data: PhantomData<&'a [u8]>,
}

/// An output: a view of numbers that a call writes. Otherwise as [`Tensor`].
#[derive(Debug)]
pub struct TensorMut<'a> {
    raw: sys::oscar_tensor,
    data: PhantomData<&'a mut [u8]>,
}

// SAFETY: as for &[T] of plain numbers. Whoever makes one of raw parts vouches for its memory.
unsafe impl Send for Tensor<'_> {}
// SAFETY: as above.
unsafe impl Sync for Tensor<'_> {}
// SAFETY: as for &mut [T] of plain numbers.
unsafe impl Send for TensorMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for TensorMut<'_> {}

impl<'a> Tensor<'a> {
    /// All of a slice as a dense tensor.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): not 1 to 4 dimensions, or the slice has not as many elements as the
    /// shape.
    #[inline]
    pub fn new<T: Element, const N: usize>(data: &'a [T], shape: [usize; N]) -> Result<Tensor<'a>> {
        Ok(Tensor::over(dense(data.as_ptr().cast(), data.len(), T::DTYPE, shape)?))
    }

    /// A part of a slice; strides count elements.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): not 1 to 4 dimensions, or the slice ends before the last element.
    /// Whether a call takes these strides is for that call to say: the last dimension must be dense.
    pub fn strided<T: Element, const N: usize>(
        data: &'a [T],
        shape: [usize; N],
        strides: [usize; N],
    ) -> Result<Tensor<'a>> {
        Ok(Tensor::over(strided(data.as_ptr().cast(), data.len(), T::DTYPE, shape, strides)?))
    }

    /// All of a slice of 16-bit IEEE floats, given as their bits, as a dense tensor. Errors: as for [`Tensor::new`].
    #[inline]
    pub fn f16_bits<const N: usize>(data: &'a [u16], shape: [usize; N]) -> Result<Tensor<'a>> {
        Ok(Tensor::over(dense(data.as_ptr().cast(), data.len(), Dtype::F16, shape)?))
    }

    /// All of a slice of BF16 numbers, given as their bits, as a dense tensor. Errors: as for [`Tensor::new`].
    #[inline]
    pub fn bf16_bits<const N: usize>(data: &'a [u16], shape: [usize; N]) -> Result<Tensor<'a>> {
        Ok(Tensor::over(dense(data.as_ptr().cast(), data.len(), Dtype::Bf16, shape)?))
    }

    /// Memory of any device. `strides` count elements; None: dense.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid): not 1 to 4 dimensions, or a size that no memory has.
    ///
    /// # Safety
    /// `data` points to memory of `device` that holds all elements, for `'a` and, on a CUDA device, until the stream of
    /// the call has done its work; nobody writes to it meanwhile except earlier work on that stream. Work that a CUDA
    /// graph has captured reads it at every launch.
    pub unsafe fn from_raw_parts<const N: usize>(
        data: *const c_void,
        device: Device,
        dtype: Dtype,
        shape: [usize; N],
        strides: Option<[usize; N]>,
    ) -> Result<Tensor<'a>> {
        Ok(Tensor::over(foreign(data, device, dtype, shape, strides)?))
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        shape_of(&self.raw)
    }

    #[inline]
    fn over(raw: sys::oscar_tensor) -> Tensor<'a> {
        Tensor { raw, data: PhantomData }
    }

    #[inline]
    pub(crate) fn raw(&self) -> sys::oscar_tensor {
        self.raw
    }
}

impl<'a> TensorMut<'a> {
    /// All of a slice as a dense tensor. Errors: as for [`Tensor::new`].
    #[inline]
    pub fn new<T: Element, const N: usize>(data: &'a mut [T], shape: [usize; N]) -> Result<TensorMut<'a>> {
        Ok(TensorMut::over(dense(data.as_mut_ptr().cast::<c_void>(), data.len(), T::DTYPE, shape)?))
    }

    /// A part of a slice; strides count elements. Errors: as for [`Tensor::strided`]; calls also refuse an output of
    /// which two elements share memory.
    pub fn strided<T: Element, const N: usize>(
        data: &'a mut [T],
        shape: [usize; N],
        strides: [usize; N],
    ) -> Result<TensorMut<'a>> {
        Ok(TensorMut::over(strided(data.as_mut_ptr().cast::<c_void>(), data.len(), T::DTYPE, shape, strides)?))
    }

    /// All of a slice of 16-bit IEEE floats, given as their bits, as a dense tensor. Errors: as for [`Tensor::new`].
    #[inline]
    pub fn f16_bits<const N: usize>(data: &'a mut [u16], shape: [usize; N]) -> Result<TensorMut<'a>> {
        Ok(TensorMut::over(dense(data.as_mut_ptr().cast::<c_void>(), data.len(), Dtype::F16, shape)?))
    }

    /// All of a slice of BF16 numbers, given as their bits, as a dense tensor. Errors: as for [`Tensor::new`].
    #[inline]
    pub fn bf16_bits<const N: usize>(data: &'a mut [u16], shape: [usize; N]) -> Result<TensorMut<'a>> {
        Ok(TensorMut::over(dense(data.as_mut_ptr().cast::<c_void>(), data.len(), Dtype::Bf16, shape)?))
    }

    /// Memory of any device. `strides` count elements; None: dense. Errors: as for [`Tensor::from_raw_parts`].
    ///
    /// # Safety
    /// As for [`Tensor::from_raw_parts`]; and nobody reads or writes it until the stream of the call has done its work,
    /// except later work on that stream.
    pub unsafe fn from_raw_parts<const N: usize>(
        data: *mut c_void,
        device: Device,
        dtype: Dtype,
        shape: [usize; N],
        strides: Option<[usize; N]>,
    ) -> Result<TensorMut<'a>> {
        Ok(TensorMut::over(foreign(data, device, dtype, shape, strides)?))
    }

    /// The same memory for a shorter time: to write it by one call, and by another one later.
    #[must_use]
    pub fn reborrow(&mut self) -> TensorMut<'_> {
        TensorMut::over(self.raw)
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        shape_of(&self.raw)
    }

    #[inline]
    fn over(raw: sys::oscar_tensor) -> TensorMut<'a> {
        TensorMut { raw, data: PhantomData }
    }

    #[inline]
    pub(crate) fn raw(&self) -> sys::oscar_tensor {
        self.raw
    }
}

/// A tensor that is not there.
pub(crate) const ABSENT: sys::oscar_tensor = sys::oscar_tensor {
    data: ptr::null_mut(),
    device_type: 0,
    device_id: 0,
    dtype_code: 0,
    dtype_bits: 0,
    dtype_lanes: 0,
    ndim: 0,
    shape: [0; 4],
    stride: [0; 4],
};

#[inline]
fn view<const N: usize>(data: *const c_void, dtype: Dtype, shape: [usize; N]) -> Result<sys::oscar_tensor> {
    if N == 0 || N > 4 {
        return Err(Error::invalid(format!("a tensor has {N} dimensions, wanted 1 to 4")));
    }
    let (dtype_code, dtype_bits) = dtype.code_and_bits();
    let mut raw = sys::oscar_tensor {
        data: data as *mut c_void,
        device_type: sys::OSCAR_DEVICE_CPU as i32,
        dtype_code,
        dtype_bits,
        dtype_lanes: 1,
        ndim: N as i32,
        ..ABSENT
    };
    for (to, &from) in raw.shape.iter_mut().zip(&shape) {
        *to = size(from)?;
    }
    Ok(raw)
}

/// Sizes and strides are signed in the ABI.
#[inline]
fn size(n: usize) -> Result<i64> {
    i64::try_from(n).map_err(|_| too_large(n))
}

// What an error takes to be said stays out of the calls that have none.
#[cold]
fn too_large(n: usize) -> Error {
    Error::invalid(format!("a size or stride is {n}, wanted at most {}", i64::MAX))
}

#[cold]
fn other_length(len: usize, shape: &[usize]) -> Error {
    Error::invalid(format!("the slice has {len} elements, wanted as many as the shape {shape:?}"))
}

#[inline]
fn dense<const N: usize>(
    data: *const c_void,
    len: usize,
    dtype: Dtype,
    shape: [usize; N],
) -> Result<sys::oscar_tensor> {
    let raw = view(data, dtype, shape)?;
    if shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size)) != Some(len) {
        return Err(other_length(len, &shape));
    }
    Ok(raw)
}

fn strided<const N: usize>(
    data: *const c_void,
    len: usize,
    dtype: Dtype,
    shape: [usize; N],
    strides: [usize; N],
) -> Result<sys::oscar_tensor> {
    let mut raw = view(data, dtype, shape)?;
    let end = shape.iter().zip(&strides).try_fold(1_usize, |end, (&n, &stride)| {
        // No element, no end: the largest index counts only where there is one.
        end.checked_add(n.saturating_sub(1).checked_mul(stride)?)
    });
    if !shape.contains(&0) && end.map_or(true, |end| end > len) {
        return Err(Error::invalid(format!(
            "the slice has {len} elements, shape {shape:?} with strides {strides:?} reaches further"
        )));
    }
    set_strides(&mut raw, &strides)?;
    Ok(raw)
}

fn foreign<const N: usize>(
    data: *const c_void,
    device: Device,
    dtype: Dtype,
    shape: [usize; N],
    strides: Option<[usize; N]>,
) -> Result<sys::oscar_tensor> {
    let mut raw = view(data, dtype, shape)?;
    raw.device_type = device.kind as i32;
    raw.device_id = device.id;
    if let Some(strides) = strides {
        set_strides(&mut raw, &strides)?;
    }
    Ok(raw)
}

fn set_strides(raw: &mut sys::oscar_tensor, strides: &[usize]) -> Result<()> {
    // All zero means dense to the ABI: a tensor whose strides really are all zero has one element at most to be given.
    if strides.iter().all(|&stride| stride == 0) {
        return Err(Error::invalid(format!("strides are {strides:?}, wanted the last one to be 1")));
    }
    for (to, &from) in raw.stride.iter_mut().zip(strides) {
        *to = size(from)?;
    }
    Ok(())
}

fn shape_of(raw: &sys::oscar_tensor) -> &[i64] {
    raw.shape.get(..raw.ndim.max(0) as usize).unwrap_or(&[])
}
