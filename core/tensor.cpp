#include "core/tensor.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/context.h"
#include "core/cuda/cuda.h"
#include "core/dispatch.h"
#include "kernels/elementwise/elementwise.h"

namespace ito {

std::string to_string(const Shape& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::int64_t numel(const Shape& shape) {
    std::int64_t count = 1;
    for (const auto size : shape) {
        if (__builtin_mul_overflow(count, size, &count))
            fail("tensor: shape {} has more elements than can be counted", shape);
    }
    return count;
}

Storage::Storage(Device device, std::size_t bytes) : device_(device), bytes_(bytes) {
    const auto allocator = Allocator::of(device);
    allocator_ = allocator;
    data_ = allocator->allocate(bytes);
}

Storage::~Storage() {
    // The allocator outlives its tensors except at the end of the process, when memory goes back anyway.
    if (const auto allocator = allocator_.lock()) allocator->deallocate(data_);
}

namespace {

Shape dense_strides(const Shape& shape) {
    Shape strides(shape.size());
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        strides[i] = stride;
        stride *= shape[i];
    }
    return strides;
}

/// The distance between rows if all dimensions but the last collapse into evenly spaced rows; else -1.
std::int64_t row_stride_of(const Shape& shape, const Shape& strides) {
    if (shape.empty() || numel(shape) == 0) return shape.empty() ? 1 : shape.back();
    const std::size_t last = shape.size() - 1;
    if (shape[last] > 1 && strides[last] != 1) return -1;
    std::int64_t row_stride = shape[last], step = -1;
    for (std::size_t i = last; i-- > 0;) {
        if (shape[i] == 1) continue;
        if (step < 0) {
            row_stride = strides[i];
            if (row_stride < shape[last]) return -1;
        } else if (strides[i] != step) {
            return -1;
        }
        step = strides[i] * shape[i];
    }
    return row_stride;
}

/// The strides of `target` if it differs from `shape` only by dimensions of size 1.
std::optional<Shape> restride_units(const Shape& shape, const Shape& strides, const Shape& target) {
    Shape result(target.size(), 1);
    std::size_t from = 0;
    for (std::size_t to = 0; to < target.size(); ++to) {
        if (target[to] == 1) continue;
        while (from < shape.size() && shape[from] == 1) ++from;
        if (from == shape.size() || shape[from] != target[to]) return {};
        result[to] = strides[from++];
    }
    return result;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType type, Device device) {
    for (const auto size : shape) require(size >= 0, "tensor: negative size in shape {}", shape);
    auto bytes = static_cast<std::int64_t>(size_of(type));
    require(!__builtin_mul_overflow(bytes, ito::numel(shape), &bytes),
            "tensor: shape {} of {} has more bytes than can be counted", shape, name_of(type));
    auto impl = std::make_shared<Impl>();
    impl->storage = std::make_shared<Storage>(device, static_cast<std::size_t>(bytes));
    impl->shape = shape;
    impl->strides = dense_strides(shape);
    impl->dtype = type;
    return Tensor(std::move(impl));
}

Tensor Tensor::zeros(const Shape& shape, DType type, Device device) {
    return full(shape, 0, type, device);
}

Tensor Tensor::full(const Shape& shape, double value, DType type, Device device) {
    Tensor tensor = empty(shape, type, device);
    tensor.fill_(value);
    return tensor;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape, Device device) {
    require(static_cast<std::int64_t>(values.size()) == ito::numel(shape), "tensor: {} values for shape {}",
            values.size(), shape);
    Tensor tensor = empty(shape, dtype_of<T>, device);
    if (values.empty()) return tensor;
    if (device.is_cpu()) {
        std::memcpy(tensor.raw(), values.data(), values.size_bytes());
    } else {
        cuda::copy_to_device(device.index, tensor.raw(), values.data(), values.size_bytes());
    }
    return tensor;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
    const Tensor dense = contiguous();
    std::vector<T> values(static_cast<std::size_t>(dense.numel()));
    if (values.empty()) return values;
    if (device().is_cpu()) {
        std::memcpy(values.data(), dense.data<T>(), values.size() * sizeof(T));
    } else {
        cuda::copy_to_host(device().index, values.data(), dense.data<T>(), values.size() * sizeof(T));
    }
    return values;
}

#define ITO_INSTANTIATE(T)                                                     \
    template Tensor Tensor::from<T>(std::span<const T>, const Shape&, Device); \
    template std::vector<T> Tensor::to_vector<T>() const;
ITO_INSTANTIATE(float)
ITO_INSTANTIATE(double)
ITO_INSTANTIATE(bfloat16)
ITO_INSTANTIATE(std::uint8_t)
ITO_INSTANTIATE(std::int64_t)
#undef ITO_INSTANTIATE

std::int64_t Tensor::dim(std::int64_t axis) const {
    const auto index = axis < 0 ? axis + rank() : axis;
    require(index >= 0 && index < rank(), "tensor: no dimension {} in shape {}", axis, shape());
    return shape()[static_cast<std::size_t>(index)];
}

bool Tensor::is_contiguous() const {
    std::int64_t stride = 1;
    for (std::size_t i = shape().size(); i-- > 0;) {
        if (shape()[i] != 1 && strides()[i] != stride) return numel() == 0;
        stride *= shape()[i];
    }
    return true;
}

bool Tensor::has_rows() const {
    return row_stride_of(shape(), strides()) >= 0;
}

Rows Tensor::rows() const {
    const std::int64_t columns = shape().empty() ? 1 : shape().back();
    const std::int64_t row_stride = row_stride_of(shape(), strides());
    if (row_stride < 0) {
        fail("tensor: shape {} with strides {} is not evenly spaced rows; call contiguous()", shape(),
             strides());
    }
    return {columns ? numel() / columns : 0, columns, row_stride};
}

void* Tensor::raw() const {
    return impl().storage->data() + static_cast<std::size_t>(impl().offset) * size_of(impl().dtype);
}

double Tensor::item() const {
    require(numel() == 1, "tensor: item() needs one element, shape is {}", shape());
    return to(DType::float64).to_vector<double>()[0];
}

Tensor Tensor::view_of(Shape shape, Shape strides, std::int64_t offset) const {
    auto view = std::make_shared<Impl>();
    view->storage = impl().storage;
    view->offset = offset;
    view->shape = std::move(shape);
    view->strides = std::move(strides);
    view->dtype = impl().dtype;
    return Tensor(std::move(view));
}

Tensor Tensor::view(const Shape& target) const {
    for (const auto size : target) require(size >= 0, "tensor: negative size in shape {}", target);
    require(ito::numel(target) == numel(), "tensor: shape {} has {} elements, {} has {}", shape(), numel(),
            target, ito::numel(target));
    if (is_contiguous()) return view_of(target, dense_strides(target), impl().offset);
    if (const auto strides = restride_units(shape(), this->strides(), target))
        return view_of(target, *strides, impl().offset);
    // Rows a row stride apart keep that form under any new split of the leading dimensions.
    const bool keeps_rows = has_rows() && !target.empty() && target.back() == shape().back();
    require(keeps_rows,
            "tensor: shape {} with strides {} cannot be seen as {} without a copy; call contiguous()",
            shape(), strides(), target);
    Shape strides = dense_strides(target);
    const std::int64_t row_stride = rows().stride;
    for (std::size_t i = 0; i + 1 < strides.size(); ++i) strides[i] = strides[i] / target.back() * row_stride;
    return view_of(target, std::move(strides), impl().offset);
}

Tensor Tensor::slice(std::int64_t axis, std::int64_t start, std::int64_t length) const {
    const std::int64_t size = dim(axis);
    require(start >= 0 && length >= 0 && start <= size && length <= size - start,
            "tensor: slice [{}, {} + {}) of dimension {} of shape {}", start, start, length, axis, shape());
    const auto index = static_cast<std::size_t>(axis < 0 ? axis + rank() : axis);
    Shape shape = this->shape();
    shape[index] = length;
    return view_of(std::move(shape), strides(), impl().offset + start * strides()[index]);
}

Tensor Tensor::detach() const {
    return view_of(shape(), strides(), impl().offset);
}

Tensor Tensor::clone() const {
    Tensor copy = like(*this);
    copy.copy_(*this);
    return copy;
}

Tensor Tensor::contiguous() const {
    return is_contiguous() ? *this : clone();
}

Tensor Tensor::to(DType type) const {
    if (type == dtype()) return *this;
    Tensor copy = empty(shape(), type, device());
    copy.copy_(*this);
    return copy;
}

Tensor Tensor::to(Device target) const {
    if (target == device()) return *this;
    const Tensor dense = contiguous();
    Tensor copy = empty(shape(), dtype(), target);
    const std::size_t bytes = static_cast<std::size_t>(numel()) * size_of(dtype());
    if (bytes == 0) return copy;
    if (target.is_cpu()) {
        cuda::copy_to_host(device().index, copy.raw(), dense.raw(), bytes);
    } else if (device().is_cpu()) {
        cuda::copy_to_device(target.index, copy.raw(), dense.raw(), bytes);
    } else {
        cuda::copy_between(target.index, copy.raw(), device().index, dense.raw(), bytes);
    }
    return copy;
}

bool Tensor::same_memory(const Tensor& other) const {
    return raw() == other.raw();
}

namespace {

/// Calls body(destination, source) for pieces that are evenly spaced rows, going down the first dimension
/// where a tensor as a whole is not.
template <class Body>
void for_each_rows(const Tensor& a, const Tensor& b, const Body& body) {
    if (a.has_rows() && b.has_rows()) return body(a, b);
    if (a.shape().back() != 1 && (a.strides().back() != 1 || b.strides().back() != 1)) {
        Shape single = a.shape();  // gaps between single elements: each is a row of its own
        single.push_back(1);
        return for_each_rows(a.view(single), b.view(single), body);
    }
    for (std::int64_t i = 0; i < a.dim(0); ++i) {
        Shape shape(a.shape().begin() + 1, a.shape().end());
        const auto at = [&](const Tensor& t) { return t.slice(0, i, 1).view(shape); };
        for_each_rows(at(a), at(b), body);
    }
}

}  // namespace

void require_same_device(const char* op, std::initializer_list<Tensor> tensors) {
    const Tensor* first = nullptr;
    for (const Tensor& tensor : tensors) {
        if (!tensor) continue;
        if (first == nullptr) first = &tensor;
        require(tensor.device() == first->device(), "{}: its tensors are on {} and on {}; move one with to()",
                op, to_string(first->device()), to_string(tensor.device()));
    }
}

void require_outside_graph(const char* op, const Tensor& tensor) {
    require(tensor.is_leaf() || !autograd::grad_enabled(),
            "{}: the tensor was made by {}, whose gradient would miss the change; use an op that makes a new "
            "one, "
            "or change detach() of it",
            op, tensor.op_name());
}

Tensor& Tensor::copy_(const Tensor& source) {
    require_outside_graph("copy_", *this);
    require(shape() == source.shape(), "copy: source has shape {}, destination {}", source.shape(), shape());
    if (device() != source.device()) {
        return copy_(source.to(device()));
    }
    const bool to_integers = dtype() == DType::uint8 || dtype() == DType::int64;
    require(!to_integers || source.dtype() == dtype(),
            "copy: cannot convert {} to {}; only float32, float64 and bfloat16 are converted to",
            name_of(source.dtype()), name_of(dtype()));
    for_each_rows(*this, source, [](const Tensor& to, const Tensor& from) {
        const Rows x = from.rows(), y = to.rows();
        ITO_LAUNCH(to.device(), copy, context_of(to.device()),
                   kernels::Copy{.rows = y.rows,
                                 .columns = y.columns,
                                 .from = from.dtype(),
                                 .to = to.dtype(),
                                 .x = from.raw(),
                                 .x_stride = x.stride,
                                 .y = to.raw(),
                                 .y_stride = y.stride});
    });
    bump_version();
    return *this;
}

Tensor& Tensor::fill_(double value) {
    require_outside_graph("fill_", *this);
    for_each_rows(*this, *this, [&](const Tensor& to, const Tensor&) {
        const Rows y = to.rows();
        ITO_LAUNCH(to.device(), fill, context_of(to.device()),
                   kernels::Fill{.rows = y.rows,
                                 .columns = y.columns,
                                 .type = to.dtype(),
                                 .value = value,
                                 .y = to.raw(),
                                 .y_stride = y.stride});
    });
    bump_version();
    return *this;
}

Tensor& Tensor::add_(const Tensor& other, double alpha) {
    require(shape() == other.shape() && dtype() == other.dtype(), "add_: {} {} and {} {} differ",
            name_of(dtype()), shape(), name_of(other.dtype()), other.shape());
    require_same_device("add_", {*this, other});
    require_outside_graph("add_", *this);
    for_each_rows(*this, other, [&](const Tensor& y, const Tensor& x) {
        dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
            "add_", y.device(), y.dtype(), [&]<class T>() {
                ITO_LAUNCH(y.device(), axpby, context_of(y.device()),
                           kernels::Axpby<T>{.rows = y.rows().rows,
                                             .columns = y.rows().columns,
                                             .alpha = alpha,
                                             .beta = 1,
                                             .a = x.data<T>(),
                                             .a_stride = x.rows().stride,
                                             .b = y.data<T>(),
                                             .b_stride = y.rows().stride,
                                             .y = y.data<T>(),
                                             .y_stride = y.rows().stride});
            });
    });
    bump_version();
    return *this;
}

Tensor& Tensor::scale_(double factor) {
    require_outside_graph("scale_", *this);
    for_each_rows(*this, *this, [&](const Tensor& y, const Tensor&) {
        dispatch<OnCpu<float, double, bfloat16>, OnCuda<float, bfloat16>>(
            "scale_", y.device(), y.dtype(), [&]<class T>() {
                ITO_LAUNCH(y.device(), axpby, context_of(y.device()),
                           kernels::Axpby<T>{.rows = y.rows().rows,
                                             .columns = y.rows().columns,
                                             .alpha = factor,
                                             .a = y.data<T>(),
                                             .a_stride = y.rows().stride,
                                             .y = y.data<T>(),
                                             .y_stride = y.rows().stride});
            });
    });
    bump_version();
    return *this;
}

Tensor& Tensor::requires_grad_(bool value) {
    require(is_leaf(), "requires_grad_: this tensor was made by {}; only leaves can be asked", op_name());
    require(!value || dtype() == DType::float32 || dtype() == DType::float64,
            "requires_grad_: gradients are float32 or float64, this tensor is {}", name_of(dtype()));
    impl().requires_grad = value;
    return *this;
}

Tensor Tensor::grad() const {
    auto& self = impl();
    if (self.grad && self.grad_stale) {
        self.grad.fill_(0);
        self.grad_stale = false;
    }
    return self.grad;
}

void Tensor::set_grad(const Tensor& buffer) {
    require(buffer.shape() == shape() && buffer.dtype() == dtype(),
            "set_grad: buffer is {} {}, tensor is {} {}", name_of(buffer.dtype()), buffer.shape(),
            name_of(dtype()), shape());
    require(buffer.is_contiguous(), "set_grad: the buffer must be contiguous, its strides are {}",
            buffer.strides());
    impl().grad = buffer;
    impl().grad_stale = false;
}

void Tensor::zero_grad() {
    impl().grad_stale = true;
}

void Tensor::backward() const {
    autograd::backward(*this);
}

const char* Tensor::op_name() const {
    return impl().node ? impl().node->name() : "leaf";
}

Tensor Tensor::derived(const std::string& key, std::size_t bytes,
                       const std::function<void(const Tensor&)>& make) const {
    auto& all = impl().derived;
    auto found = std::find_if(all.begin(), all.end(), [&](const auto& d) { return d.key == key; });
    if (found != all.end() && found->version == version()) return found->buffer;
    Tensor buffer;
    if (found != all.end()) {
        buffer = found->buffer;
        all.erase(found);  // in case `make` throws half way
    }
    if (!buffer || buffer.numel() != static_cast<std::int64_t>(bytes)) {
        buffer = empty({static_cast<std::int64_t>(bytes)}, DType::uint8, device());
    }
    make(buffer);
    all.push_back({key, version(), buffer});
    return buffer;
}

void Tensor::release_derived() const {
    impl().derived.clear();
}

Tensor Tensor::as(DType type) const {
    if (type == dtype()) return detach();
    const Tensor& copy = impl().compute_copy;
    if (copy && copy.dtype() == type) return copy;
    const auto typed = [&](const Tensor& buffer) {
        Tensor view = buffer.view_of(shape(), dense_strides(shape()), 0);
        view.impl().dtype = type;
        return view;
    };
    const std::size_t bytes = static_cast<std::size_t>(numel()) * size_of(type);
    return typed(derived(fmt::format("as {}", name_of(type)), bytes,
                         [&](const Tensor& buffer) { typed(buffer).copy_(detach()); }));
}

void Tensor::set_compute_copy(const Tensor& copy) {
    require(copy.shape() == shape() && copy.is_contiguous() && copy.device() == device(),
            "set_compute_copy: the copy has shape {} on {}, expected dense {} on {}", copy.shape(),
            to_string(copy.device()), shape(), to_string(device()));
    impl().compute_copy = copy;
}

}  // namespace ito
