#include "tools/vgpu/executor/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define VGPU_ASAN 1
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define VGPU_ASAN 0
#endif

#if defined(__x86_64__)
// void vgpu_fiber_change(void** save, void* load). Ends in a jump instead of a return: the return address
// predictor would be wrong every time.
extern "C" void vgpu_fiber_change(void** save, void* load);
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".type vgpu_fiber_change,@function\n"
    ".globl vgpu_fiber_change\n"
    "vgpu_fiber_change:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  popq %rcx\n"
    "  jmpq *%rcx\n"
    ".size vgpu_fiber_change,.-vgpu_fiber_change\n"
    // A new fiber starts here, its Fiber in rbx.
    ".p2align 4\n"
    ".type vgpu_fiber_start,@function\n"
    ".globl vgpu_fiber_start\n"
    "vgpu_fiber_start:\n"
    "  movq %rbx, %rdi\n"
    "  xorl %ebp, %ebp\n"
    "  call vgpu_fiber_entry\n"
    "  ud2\n"
    ".size vgpu_fiber_start,.-vgpu_fiber_start\n");
extern "C" void vgpu_fiber_start();
#else
#include <ucontext.h>
#endif

namespace vgpu::device {
namespace {

constexpr std::size_t stack_bytes = VGPU_ASAN ? std::size_t{1} << 20 : std::size_t{256} << 10;

}  // namespace

void fiber_entry(Fiber* fiber) {
    fiber->main_(*fiber);
}

Fiber::Fiber() {
#if VGPU_ASAN
    // AddressSanitizer wants to know the host stack's extent when a fiber goes back there.
    pthread_attr_t attributes;
    void* bottom = nullptr;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &bottom, &size_);
        pthread_attr_destroy(&attributes);
        bottom_ = bottom;
    }
#endif
}

Fiber::Fiber(Main main, void* owner, std::size_t index) : main_(main), owner_(owner) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = stack_bytes + page;
    void* memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        throw std::bad_alloc();
    }
    mprotect(memory, page, PROT_NONE);
    memory_ = static_cast<unsigned char*>(memory);
    offset_ = (index % 16) * 256 + (index / 16 % 4) * 64;
    bottom_ = memory_ + page;
    size_ = stack_bytes;
    reset();
}

Fiber::~Fiber() {
    if (memory_ != nullptr) {
#if !defined(__x86_64__)
        delete static_cast<ucontext_t*>(stack_pointer_);
#endif
        munmap(memory_, bytes_);
    }
#if !defined(__x86_64__)
    else {
        delete static_cast<ucontext_t*>(stack_pointer_);
    }
#endif
}

#if defined(__x86_64__)

void Fiber::reset() {
#if VGPU_ASAN
    __asan_unpoison_memory_region(bottom_, size_);
#endif
    auto** top = reinterpret_cast<void**>(memory_ + bytes_ - offset_ - 64);
    *--top = nullptr;  // keeps the stack aligned at the call
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&vgpu_fiber_start);
    void* const saved[] = {nullptr, nullptr, nullptr, nullptr, this, nullptr};  // r15 r14 r13 r12 rbx rbp
    top -= 6;
    for (int i = 0; i < 6; ++i) {
        top[i] = saved[i];
    }
    stack_pointer_ = top;
}

void Fiber::change(Fiber& from, Fiber& to, bool dying) {
#if VGPU_ASAN
    __sanitizer_start_switch_fiber(dying ? nullptr : &from.fake_stack_, to.bottom_, to.size_);
#else
    (void)dying;
#endif
    vgpu_fiber_change(&from.stack_pointer_, to.stack_pointer_);
#if VGPU_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

#else

void Fiber::reset() {
    if (stack_pointer_ == nullptr) {
        stack_pointer_ = new ucontext_t;
    }
    auto* context = static_cast<ucontext_t*>(stack_pointer_);
    getcontext(context);
    context->uc_stack.ss_sp = const_cast<void*>(bottom_);
    context->uc_stack.ss_size = size_ - offset_;
    context->uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    makecontext(context, reinterpret_cast<void (*)()>(+[](unsigned high, unsigned low) {
                    fiber_entry(reinterpret_cast<Fiber*>(static_cast<std::uintptr_t>(high) << 32 | low));
                }),
                2, static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
}

void Fiber::change(Fiber& from, Fiber& to, bool dying) {
    if (from.stack_pointer_ == nullptr) {
        from.stack_pointer_ = new ucontext_t;
    }
#if VGPU_ASAN
    __sanitizer_start_switch_fiber(dying ? nullptr : &from.fake_stack_, to.bottom_, to.size_);
#else
    (void)dying;
#endif
    swapcontext(static_cast<ucontext_t*>(from.stack_pointer_), static_cast<ucontext_t*>(to.stack_pointer_));
#if VGPU_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

#endif

void Fiber::arrived() {
#if VGPU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace vgpu::device

extern "C" void vgpu_fiber_entry(vgpu::device::Fiber* fiber) {
    vgpu::device::fiber_entry(fiber);
}
