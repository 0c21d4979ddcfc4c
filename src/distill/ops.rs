//! The frozen linear step as an operation of Burn's graph: forwards and backwards are the runner's own shaders, on Burn's
//! buffers without a copy.
//!
//! `y = W x (+ bias) + s B (A x)`. Backwards it gives dx to the graph, and adds the gradients of A and B to
//! [`Training`]'s own buffers: the graph never sees the pairs, so that nothing of their size is made per step. z = A x is
//! computed again backwards: it is thin, and keeping it would cost a buffer per step.

use crate::gpu::{Training, View};
use crate::model::{MatrixId, VectorId};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, WgpuResource};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use cubecl::client::Client;
use cubecl::server::Handle;
use cubecl::wgpu::{AutoCompiler, WgpuServer};
use cubecl_runtime::storage::ManagedResource;
use std::fmt;
use std::sync::Arc;

/// A linear step's matrix.
#[derive(Clone)]
pub struct Frozen {
    /// Where it lies.
    pub training: Arc<Training>,
    /// Which.
    pub matrix: MatrixId,
    /// Added to each row.
    pub bias: Option<VectorId>,
    /// With what was learned; `false`: the student as it was.
    pub on: bool,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "matrix {}", self.matrix)
    }
}

/// Burn's buffers, for as long as it lives: they are not used again by others meanwhile.
pub struct Crossing<const N: usize> {
    _held: [ManagedResource<WgpuResource>; N],
    /// The buffers.
    pub views: [View; N],
}

/// Submits what Burn has queued so far and hands its buffers out: what is submitted next comes behind it, and what Burn
/// queues later behind that.
pub fn crossing<const N: usize>(client: &Client, handles: [&Handle; N]) -> Crossing<N> {
    let held = handles.map(|handle| {
        client
            .get_resource::<WgpuServer<AutoCompiler>>(handle.clone())
            .expect("Burn has the buffer that it handed out")
    });
    client.flush().expect("Burn's queue takes what it has encoded");
    let views = std::array::from_fn(|i| {
        let resource = held[i].resource();
        View {
            buffer: resource.buffer.clone(),
            offset: resource.offset,
            size: Some(resource.size),
        }
    });
    Crossing { _held: held, views }
}

/// An empty tensor of `(rows, columns)` f32 beside `like`.
fn beside(like: &CubeTensor, rows: usize, columns: usize) -> CubeTensor {
    let client = like.client.clone();
    let handle = client.empty(4 * rows * columns);
    CubeTensor::new_contiguous(
        client,
        like.device.clone(),
        Shape::from([rows, columns]),
        handle,
        DType::F32,
    )
}

/// Rows and columns of a tensor of two dimensions.
fn size(tensor: &CubeTensor) -> (usize, usize) {
    let shape = tensor.meta.shape();
    (shape[0], shape[1])
}

/// Backends that have the operation.
#[backend_extension(Autodiff, Cube)]
pub trait FrozenBackend: Backend {
    /// y `(T, N)` of x `(T, K)`.
    fn frozen(x: FloatTensor<Self>, step: Frozen) -> FloatTensor<Self>;
    /// dx `(T, K)` of dy `(T, N)`; the pairs' gradients are added to their buffers.
    fn frozen_back(dy: FloatTensor<Self>, x: FloatTensor<Self>, step: Frozen) -> FloatTensor<Self>;
}

impl FrozenBackend for CubeBackend {
    fn frozen(x: FloatTensor<Self>, step: Frozen) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let (rows, _) = size(&x);
        let y = beside(&x, rows, step.training.plan().matrices[step.matrix].rows);
        // On a lost device there is nothing to compute: whoever reads a result is told so.
        if step.training.gpu().lost().is_none() {
            let Crossing { views: [from, to], .. } = &crossing(&x.client, [&x.handle, &y.handle]);
            step.training.product(step.matrix, step.bias, step.on, from, to, rows);
        }
        y
    }

    fn frozen_back(dy: FloatTensor<Self>, x: FloatTensor<Self>, step: Frozen) -> FloatTensor<Self> {
        let (dy, x) = (into_contiguous(dy), into_contiguous(x));
        let (rows, columns) = size(&x);
        let dx = beside(&x, rows, columns);
        if step.training.gpu().lost().is_none() {
            let handles = [&x.handle, &dy.handle, &dx.handle];
            let Crossing { views: [x, dy, dx], .. } = &crossing(&x.client, handles);
            step.training.product_back(step.matrix, x, dy, dx, rows);
        }
        dx
    }
}

impl<B: Backend + FrozenBackend, C: CheckpointStrategy> FrozenBackend for Autodiff<B, C> {
    fn frozen(x: FloatTensor<Self>, step: Frozen) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Back;
        impl<B: Backend + FrozenBackend> Backward<B, 1> for Back {
            type State = (Frozen, FloatTensor<B>);
            fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
                let [parent] = ops.parents;
                let dy = gradients.consume::<B>(&ops.node);
                let (step, x) = ops.state;
                let dx = B::frozen_back(dy, x, step);
                if let Some(node) = parent {
                    gradients.register::<B>(node.id, dx);
                }
            }
        }
        match Back.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let x = x.into_primitive();
                let y = B::frozen(x.clone(), step.clone());
                prepared.finish((step, x), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::frozen(x.into_primitive(), step)),
        }
    }

    fn frozen_back(_: FloatTensor<Self>, _: FloatTensor<Self>, _: Frozen) -> FloatTensor<Self> {
        unreachable!("nothing here is derived twice")
    }
}

/// The frozen linear step on a tensor `(T, K)`, K whole groups of eight.
pub fn frozen(x: Tensor<2>, step: &Frozen) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FrozenBackend>::frozen(x.into_dispatch(), step.clone()))
}

/// The buffer behind a tensor that is not part of a graph, and the client that made it.
pub fn primitive(tensor: &Tensor<2>) -> CubeTensor {
    let tensor = tensor
        .clone()
        .try_into_primitive::<CubeBackend>()
        .expect("every tensor here lies on the device");
    into_contiguous(tensor)
}
