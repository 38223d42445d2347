//! The launcher that is a GPU, by way of candle's device; and tensors in and out of it.
//!
//! All work goes to candle's one stream of the device, so it is done in the order of the calls.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, CudaStorage, CudaStorageSlice, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{DType, Error, Layout, Result, Shape, Storage, Tensor};

use super::{Arg, HEADER, Kernel, Launcher, Product};
use crate::ops::Form;

/// Threads of a block.
const BLOCK: usize = 256;

/// A GPU whose launches may read memory that lives for `'a`.
pub(crate) struct Gpu<'a> {
    device: CudaDevice,
    lifetime: PhantomData<&'a ()>,
}

/// Memory of a GPU.
pub(crate) enum Memory<'a> {
    /// Made by the op.
    Own(CudaStorage),
    /// A tensor's, from this value on.
    Of(&'a CudaStorage, usize),
}

impl Memory<'_> {
    /// The storage, and the first value's place in it.
    fn parts(&self) -> (&CudaStorage, usize) {
        match self {
            Memory::Own(storage) => (storage, 0),
            Memory::Of(storage, start) => (storage, *start),
        }
    }

    /// What an op has made, to hand on.
    pub(crate) fn into_storage(self) -> Result<CudaStorage> {
        match self {
            Memory::Own(storage) => Ok(storage),
            Memory::Of(..) => Err(Error::Msg("an op's result must be memory of its own".into())),
        }
    }
}

/// The values of a contiguous tensor as its op gets them.
pub(crate) fn memory<'a>(
    op: &'static str,
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<Memory<'a>> {
    match layout.contiguous_offsets() {
        Some((start, _)) => Ok(Memory::Of(storage, start)),
        None => {
            let found = format!("layout {layout:?}");
            Err(crate::Error::op(op, found, "it needs whole, contiguous values").into())
        }
    }
}

/// The storage of a tensor on a GPU, borrowed for as long as this lives; for backward passes.
pub(crate) struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    start: usize,
}

impl<'a> Held<'a> {
    /// Of a contiguous tensor.
    pub(crate) fn new(op: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let start = layout.contiguous_offsets().map(|(start, _)| start);
        match (&*storage, start) {
            (Storage::Cuda(_), Some(start)) => Ok(Held { storage: Box::new(storage), start }),
            _ => {
                let found = format!("layout {layout:?} on {:?}", tensor.device());
                let needs = "it needs a contiguous tensor on the GPU of the others";
                Err(crate::Error::op(op, found, needs).into())
            }
        }
    }

    pub(crate) fn storage(&self) -> Result<&CudaStorage> {
        match &**self.storage {
            Storage::Cuda(storage) => Ok(storage),
            _ => Err(Error::Msg("a tensor has left its GPU".into())),
        }
    }

    pub(crate) fn memory(&self) -> Result<Memory<'_>> {
        Ok(Memory::Of(self.storage()?, self.start))
    }
}

/// Refuses the definition, which is for CPUs.
pub(crate) fn form_runs(op: &'static str, form: Form) -> Result<()> {
    match form {
        Form::Definition => {
            let needs = "the definition runs on the CPU alone";
            Err(crate::Error::op(op, "tensors on a GPU", needs).into())
        }
        _ => Ok(()),
    }
}

/// A tensor of what an op has made.
pub(crate) fn tensor(memory: Memory<'_>, shape: impl Into<Shape>) -> Result<Tensor> {
    let storage = Storage::Cuda(memory.into_storage()?);
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

impl<'a> Gpu<'a> {
    /// The one that holds `storage`.
    pub(crate) fn of(storage: &CudaStorage) -> Self {
        Gpu { device: storage.device.clone(), lifetime: PhantomData }
    }

    /// The kernels of a source as PTX for this GPU; nothing where it has loaded them already.
    fn ptx(&self, kernel: Kernel) -> Result<String> {
        type Loaded = HashSet<(DeviceId, &'static str, &'static str)>;
        static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);
        let key = (self.device.id(), kernel.source.name, kernel.dtype.as_str());
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if loaded.contains(&key) {
            return Ok(String::new());
        }
        let ptx = self.compile(kernel)?;
        loaded.insert(key);
        Ok(ptx)
    }

    fn compile(&self, kernel: Kernel) -> Result<String> {
        let stream = self.device.cuda_stream();
        let (major, minor) = stream.context().compute_capability().map_err(Error::wrap)?;
        let options = vec![
            format!("--gpu-architecture=compute_{major}{minor}"),
            format!("-DREAL={}", if kernel.dtype == DType::F64 { "double" } else { "float" }),
        ];
        let name = format!("the kernels of {} ({})", kernel.source.name, options.join(" "));
        let text = [HEADER, kernel.source.text].concat();
        match compile_ptx_with_opts(text, CompileOptions { options, ..Default::default() }) {
            Ok(ptx) => Ok(ptx.to_src()),
            Err(error) => Err(Error::Msg(format!("NVRTC cannot compile {name}: {error:?}"))),
        }
    }
}

impl<'a> Launcher for Gpu<'a> {
    type Buffer = Memory<'a>;

    fn alloc(&self, dtype: DType, len: usize) -> Result<Memory<'a>> {
        use candle_core::backend::BackendDevice;
        // SAFETY: the kernels write every value of what they are given to write to, which the tests
        // see by memory that is all NaN before.
        let storage = unsafe { self.device.alloc_uninit(&Shape::from(len), dtype)? };
        Ok(Memory::Own(storage))
    }

    fn launch(
        &self,
        kernel: Kernel,
        threads: usize,
        args: &mut [Arg<'_, Memory<'a>>],
    ) -> Result<()> {
        if !matches!(kernel.dtype, DType::F32 | DType::F64) {
            let found = format!("{:?}", kernel.dtype);
            return Err(
                crate::Error::op(kernel.source.name, found, "it works on f32 and f64").into()
            );
        }
        let blocks = u32::try_from(threads.div_ceil(BLOCK)).ok().filter(|&n| n <= i32::MAX as u32);
        let blocks = blocks.ok_or_else(|| {
            let found = format!("{threads} values");
            crate::Error::op(kernel.source.name, found, "a grid has less than 2^31 blocks of 256")
        })?;
        let module = format!("convzoo_{}_{}", kernel.source.name, kernel.dtype.as_str());
        let function =
            self.device.get_or_load_custom_func(kernel.name, &module, &self.ptx(kernel)?)?;
        let stream = self.device.cuda_stream();
        let count = threads as u64;
        // What each parameter's bytes are read from: a pointer, or the words themselves. The guards
        // tell candle's bookkeeping of events when the memory has been used.
        let (mut words, mut guards) = (Vec::with_capacity(args.len()), Vec::new());
        for arg in args.iter_mut() {
            match arg {
                Arg::Words(values) => words.push(values.clone()),
                Arg::Read(memory) => {
                    let (storage, start) = memory.parts();
                    let (pointer, guard) = match &storage.slice {
                        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream),
                        CudaStorageSlice::F64(slice) => slice.device_ptr(&stream),
                        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream),
                        _ => return Err(untyped(kernel)),
                    };
                    guards.push(guard);
                    words.push(vec![pointer + (start * storage.dtype().size_in_bytes()) as u64]);
                }
                Arg::Write(Memory::Own(storage)) => {
                    let (pointer, guard) = match &mut storage.slice {
                        CudaStorageSlice::F32(slice) => slice.device_ptr_mut(&stream),
                        CudaStorageSlice::F64(slice) => slice.device_ptr_mut(&stream),
                        CudaStorageSlice::U32(slice) => slice.device_ptr_mut(&stream),
                        _ => return Err(untyped(kernel)),
                    };
                    guards.push(guard);
                    words.push(vec![pointer]);
                }
                Arg::Write(Memory::Of(..)) => {
                    return Err(Error::Msg(format!("{} must not write to its input", kernel.name)));
                }
            }
        }
        let mut builder = stream.launch_builder(&function);
        builder.arg(&count);
        for words in &words {
            builder.arg(&words[0]);
        }
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (BLOCK as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: number, kinds and sizes of the arguments are those of the kernel's parameters, and
        // no thread reads or writes outside its buffers: the tests run every launch of the host side
        // on the same sources, with both checked. The words live until the launch is made.
        unsafe { builder.launch(config) }.map_err(Error::wrap)?;
        drop(guards);
        Ok(())
    }

    fn matmul(&self, a: &Memory<'a>, b: &Memory<'a>, sizes: Product) -> Result<Memory<'a>> {
        let Product { batch, m, n, k, a_transposed, b_transposed } = sizes;
        let layout = |rows: usize, columns: usize, transposed: bool, start: usize| {
            let (down, across) = if transposed { (1, rows) } else { (columns, 1) };
            let shape = Shape::from((batch, rows, columns));
            Layout::new(shape, vec![rows * columns, down, across], start)
        };
        let ((a, a_start), (b, b_start)) = (a.parts(), b.parts());
        let (a_layout, b_layout) =
            (layout(m, k, a_transposed, a_start), layout(k, n, b_transposed, b_start));
        Ok(Memory::Own(a.matmul(b, (batch, m, n, k), &a_layout, &b_layout)?))
    }
}

fn untyped(kernel: Kernel) -> Error {
    Error::Msg(format!("{} takes f32, f64 and u32 alone", kernel.name))
}
