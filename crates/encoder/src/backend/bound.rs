//! Batches to and from a GPU by page-locked memory, which the device reads and writes by itself:
//! what goes by memory that may be paged is copied once more by the driver, with the host waiting.
//! Apart from the plain way, since there is one more thing that may fail, and nothing of it on a CPU.

use std::fmt::Debug;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{PrimitiveTensorElementType, Tensor};

use crate::settings::Device;

/// The memory of one session's inputs and outputs. Its allocator is not to be used by two threads
/// at once: whoever holds the session holds this.
#[derive(Debug)]
pub struct Bound {
    allocator: Allocator,
}

impl Bound {
    pub fn new(session: &Session, device: Device) -> ort::Result<Self> {
        let (place, kind) = match device {
            Device::Cpu | Device::Auto => (AllocationDevice::CPU, MemoryType::Default),
            Device::Cuda | Device::Tensorrt => {
                (AllocationDevice::CUDA_PINNED, MemoryType::CPUOutput)
            }
        };
        let memory = MemoryInfo::new(place, 0, AllocatorType::Device, kind)?;
        Ok(Self { allocator: Allocator::new(session, memory)? })
    }

    /// Runs a batch of `shape`; `output` is the name of an output f32 [N, `dimensions`].
    pub fn run<T>(
        &self,
        session: &mut Session,
        shape: &[i64],
        data: &[T],
        output: &str,
        dimensions: usize,
    ) -> ort::Result<Vec<f32>>
    where
        T: PrimitiveTensorElementType + Debug + Copy + 'static,
    {
        let input_name = session.inputs()[0].name().to_owned();
        let mut input = Tensor::<T>::new(&self.allocator, shape)?;
        input.extract_tensor_mut().1.copy_from_slice(data);
        let values = Tensor::<f32>::new(&self.allocator, [shape[0], dimensions as i64])?;
        let mut binding = session.create_binding()?;
        binding.bind_input(input_name, &input)?;
        binding.bind_output(output, values)?;
        // Until the run has ended the device may still read the one and write the other.
        let outputs = session.run_binding(&binding)?;
        binding.synchronize_outputs()?;
        Ok(outputs[output].try_extract_tensor::<f32>()?.1.to_vec())
    }
}
