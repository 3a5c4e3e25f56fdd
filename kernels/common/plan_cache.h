#pragma once
// Libraries' plans (oneDNN primitives, cuDNN plans) by the bytes of a key struct. Creating one takes 0.1 to 0.8 ms, finding
// it again about a microsecond.

#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace ito::kernels {

/// Keeps what was prepared for a shape (a oneDNN primitive, say) for the next call.
class PlanCache {
  public:
    /// The plan of (kind, key); the first call creates it with `make()`, which returns a std::shared_ptr<Plan>. `kind` names
    /// kernel and direction, so that equal shapes of two kernels differ. Key must have no padding bytes: its bytes are
    /// compared. Not thread-safe: launchers call it before they go parallel.
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

    /// The number of plans, which tells whether one was used again.
    std::size_t size() const { return plans_.size(); }

  private:
    std::unordered_map<std::string, std::shared_ptr<void>> plans_;
};

}  // namespace ito::kernels
