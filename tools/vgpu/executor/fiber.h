// Stacks that can be left and entered again. One CUDA thread that waits owns one fiber.
#pragma once

#include <cstddef>

namespace vgpu::device {

class Fiber {
  public:
    using Main = void (*)(Fiber&);
    // The calling host thread's own stack.
    Fiber();
    // A new stack. `index` staggers the tops, so that the frames of neighbouring threads do not share cache sets.
    Fiber(Main main, void* owner, std::size_t index);
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    void reset();  // forgets what ran on it: the next entry begins main again
    // Leaves `from` for `to`; returns when `from` is entered again, which never happens if it is `dying`.
    static void change(Fiber& from, Fiber& to, bool dying = false);
    void arrived();  // to be called first in main
    void* owner() const { return owner_; }

  private:
    void* stack_pointer_ = nullptr;  // saved registers, or a ucontext_t
    Main main_ = nullptr;
    void* owner_ = nullptr;
    unsigned char* memory_ = nullptr;
    std::size_t bytes_ = 0, offset_ = 0;
    void* fake_stack_ = nullptr;  // AddressSanitizer's
    const void* bottom_ = nullptr;
    std::size_t size_ = 0;
    friend void fiber_entry(Fiber*);
};

}  // namespace vgpu::device
