#pragma once
// Tensor: a typed, strided view of storage on a device, with its place in the autograd graph.
//
// A Tensor is a handle: copies share the same elements and the same gradient. Image tensors are [N, H, W, C],
// logically and physically; a slice of channels is a view whose pixels lie a row stride apart (see rows()).

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/device.h"
#include "core/error.h"
#include "kernels/common/dtype.h"
#include "kernels/common/view.h"

namespace ito {

using Shape = std::vector<std::int64_t>;
std::string to_string(const Shape& shape);
std::int64_t numel(const Shape& shape);

namespace autograd {
class Node;
}

/// Memory that one or more tensors view. The version counts changes in place; all views share it.
class Storage {
  public:
    Storage(Device device, std::size_t bytes);
    ~Storage();
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    std::byte* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    Device device() const { return device_; }
    std::uint64_t version() const { return version_; }
    void bump_version() { ++version_; }

  private:
    Device device_;
    std::size_t bytes_;
    std::weak_ptr<Allocator> allocator_;
    std::byte* data_;
    std::uint64_t version_ = 0;
};

/// Memory seen as `rows` rows of `columns` adjacent elements that start `stride` elements apart: the form in
/// which kernels take tensors. `columns` is the last dimension; a dense tensor has stride == columns.
struct Rows {
    std::int64_t rows = 0, columns = 0, stride = 0;
    bool dense() const { return stride == columns || rows <= 1; }
};

/// A handle to elements of one type with a shape; copies share elements and gradient.
class Tensor {
  public:
    /// The undefined tensor (an absent bias, a gradient nobody asked for).
    Tensor() = default;

    // --- making one ---
    /// Elements undefined.
    static Tensor empty(const Shape& shape, DType type = DType::float32, Device device = {});
    static Tensor zeros(const Shape& shape, DType type = DType::float32, Device device = {});
    static Tensor full(const Shape& shape, double value, DType type = DType::float32, Device device = {});
    static Tensor like(const Tensor& other) { return empty(other.shape(), other.dtype(), other.device()); }
    /// From host values, one per element in row-major order.
    template <class T>
    static Tensor from(std::span<const T> values, const Shape& shape, Device device = {});
    template <class T>
    static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = {}) {
        return from(std::span<const T>(values), shape, device);
    }

    // --- what it is ---
    bool defined() const { return impl_ != nullptr; }  ///< false for Tensor()
    explicit operator bool() const { return defined(); }
    const Shape& shape() const;
    /// Size of a dimension; negative counts from the end.
    std::int64_t dim(std::int64_t axis) const;
    std::int64_t rank() const;     ///< number of dimensions
    std::int64_t numel() const;    ///< number of elements
    const Shape& strides() const;  ///< in elements
    DType dtype() const;
    Device device() const;
    bool is_contiguous() const;  ///< dense, in row-major order
    /// See Rows. Throws Error if the leading dimensions do not collapse into evenly spaced rows.
    Rows rows() const;
    /// The same as kernels take them; T, or T without const, must be the dtype's type. Empty for the undefined tensor.
    template <class T>
    kernels::View<T> rows() const;
    bool has_rows() const;  ///< whether rows() works

    // --- its elements ---
    /// Pointer to the first element; T must be the dtype's type.
    template <class T>
    T* data() const;
    void* raw() const;  ///< the same, of any dtype
    /// Copies to the host, row-major.
    template <class T>
    std::vector<T> to_vector() const;
    /// The value of a one-element tensor of any dtype.
    double item() const;

    // --- views and copies, not recorded (the differentiable ones are in core/ops/view.h) ---
    /// The same elements under another shape; throws if the strides do not allow it without a copy.
    Tensor view(const Shape& shape) const;
    /// Elements [start, start + length) of a dimension.
    Tensor slice(std::int64_t axis, std::int64_t start, std::int64_t length) const;
    Tensor clone() const;       ///< dense copy
    Tensor contiguous() const;  ///< itself if dense, else a dense copy
    Tensor to(DType type) const;
    /// Itself if it is there, else a dense copy. To the host: waits for the device.
    Tensor to(Device device) const;

    // --- changing it in place, not recorded: each bumps the version, and refuses what an op has made, unless under
    // no-grad (the gradient would be that of the value before the change) ---
    Tensor& fill_(double value);                          ///< every element
    Tensor& copy_(const Tensor& source);                  ///< converts the dtype, and moves between devices
    Tensor& add_(const Tensor& other, double alpha = 1);  ///< *this += alpha * other
    Tensor& scale_(double factor);                        ///< *this *= factor

    std::uint64_t version() const;  ///< of the storage: changes in place so far
    /// To be called after writing through data().
    void bump_version();
    const std::shared_ptr<Storage>& storage() const;
    /// True if both view the same first element of the same storage.
    bool same_memory(const Tensor& other) const;

    // --- autograd ---
    /// A leaf whose gradient backward() is to compute. Only for floating tensors that no op made.
    Tensor& requires_grad_(bool value = true);
    bool requires_grad() const;  ///< true too for what an op made of such tensors
    bool is_leaf() const;        ///< no recorded op made it
    /// The same elements outside of the graph.
    Tensor detach() const;
    /// A leaf's gradient: undefined before the first backward(); zeros after zero_grad().
    Tensor grad() const;
    /// Makes `buffer` (same shape and dense, e.g. a slice of the flat gradient buffer) the place of the gradient.
    void set_grad(const Tensor& buffer);
    /// The next backward() overwrites the gradient instead of adding to it.
    void zero_grad();
    /// Gradients of all leaves below this one-element tensor, added to what they hold.
    void backward() const;
    /// The op that made it, for errors and dumps: "GroupNorm", or "leaf".
    const char* op_name() const;

    // --- derived data ---
    /// A buffer computed from this tensor's values (packed or transformed weights), kept until the values
    /// change: `make` fills it when there is none under `key` for the present version.
    Tensor derived(const std::string& key, std::size_t bytes,
                   const std::function<void(const Tensor&)>& make) const;
    void release_derived() const;

    /// The values in `type`, outside of the graph, for kernels to read: the tensor itself if it has the type, the copy that
    /// set_compute_copy() attached, else a converted copy that is kept until the values change. So float32 master weights
    /// are used in bfloat16 (mixed precision).
    Tensor as(DType type) const;
    /// Attaches a copy in another type, of the same shape, that its owner keeps up to date (Adam writes it).
    void set_compute_copy(const Tensor& copy);

    struct Impl;
    Impl& impl() const;
    const std::shared_ptr<Impl>& handle() const { return impl_; }

  private:
    explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
    Tensor view_of(Shape shape, Shape strides, std::int64_t offset) const;

    std::shared_ptr<Impl> impl_;
};

/// What the copies of a tensor share.
struct Tensor::Impl {
    std::shared_ptr<Storage> storage;
    std::int64_t offset = 0;  // in elements
    Shape shape, strides;
    DType dtype = DType::float32;

    bool requires_grad = false;
    std::shared_ptr<autograd::Node> node;  // null for a leaf
    Tensor grad;                           // of a leaf
    bool grad_stale = false;               // zero_grad() was called: the buffer's contents do not count

    struct DerivedBuffer {
        std::string key;
        std::uint64_t version;
        Tensor buffer;
    };
    std::vector<DerivedBuffer> derived;
    Tensor compute_copy;  // the values in the type that kernels read, if somebody keeps such a copy
};

inline Tensor::Impl& Tensor::impl() const {
    require(impl_ != nullptr, "tensor: used before it was given a value");
    return *impl_;
}

inline const Shape& Tensor::shape() const {
    return impl().shape;
}
inline std::int64_t Tensor::rank() const {
    return static_cast<std::int64_t>(impl().shape.size());
}
inline std::int64_t Tensor::numel() const {
    return ito::numel(impl().shape);
}
inline const Shape& Tensor::strides() const {
    return impl().strides;
}
inline DType Tensor::dtype() const {
    return impl().dtype;
}
inline Device Tensor::device() const {
    return impl().storage->device();
}
inline std::uint64_t Tensor::version() const {
    return impl().storage->version();
}
inline const std::shared_ptr<Storage>& Tensor::storage() const {
    return impl().storage;
}
inline bool Tensor::requires_grad() const {
    return impl_ && (impl_->requires_grad || impl_->node);
}
inline bool Tensor::is_leaf() const {
    return !impl().node;
}
inline void Tensor::bump_version() {
    impl().storage->bump_version();
}

template <class T>
T* Tensor::data() const {
    require(dtype_of<T> == dtype(), "tensor: asked for {} elements of a {} tensor", name_of(dtype_of<T>),
            name_of(dtype()));
    return static_cast<T*>(raw());
}

template <class T>
kernels::View<T> Tensor::rows() const {
    if (!defined()) return {};
    const Rows all = rows();
    return {data<std::remove_const_t<T>>(), all.rows, all.columns, all.stride};
}

/// Throws Error naming the op unless all tensors that are defined are on one device.
void require_same_device(const char* op, std::initializer_list<Tensor> tensors);

/// Throws Error naming the op that would change `tensor` in place if the graph would miss that.
void require_outside_graph(const char* op, const Tensor& tensor);

/// The shape of an optional tensor, for messages: [] if it is undefined.
inline const Shape& shape_of(const Tensor& tensor) {
    static const Shape none;
    return tensor ? tensor.shape() : none;
}

}  // namespace ito
