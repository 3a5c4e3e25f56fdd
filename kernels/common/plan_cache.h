#pragma once
// Libraries' plans (oneDNN primitives, cuDNN plans) kept by the bytes of a key struct. Creating one costs
// 0.1 to 0.8 ms, finding it again about a microsecond.

#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace ito::kernels {

/// What is prepared once for a shape (a oneDNN primitive, say), kept for the next call.
class PlanCache {
  public:
    /// The plan stored under (kind, key), made by `make()` (which returns a std::shared_ptr<Plan>) at the
    /// first call. `kind` names the kernel and direction, so that equal shapes of two kernels differ.
    /// Key must have no padding bytes: its object representation is what is compared.
    /// Not thread-safe: called by launchers before they go parallel.
    template <class Plan, class Key, class Make>
    Plan& get(const char* kind, const Key& key, Make&& make) {
        static_assert(std::has_unique_object_representations_v<Key>, "a plan key must have no padding");
        std::string bytes(kind);
        bytes.push_back('\0');
        bytes.append(reinterpret_cast<const char*>(&key), sizeof(Key));
        auto found = plans_.find(bytes);
        if (found == plans_.end()) {
            std::shared_ptr<Plan> plan = make();
            found = plans_.emplace(std::move(bytes), std::move(plan)).first;
        }
        return *static_cast<Plan*>(found->second.get());
    }

    /// How many plans there are, which tells whether one was used again.
    std::size_t size() const { return plans_.size(); }

  private:
    std::unordered_map<std::string, std::shared_ptr<void>> plans_;
};

}  // namespace ito::kernels
