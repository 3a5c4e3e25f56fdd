#include "tests/support/cuda_machine.h"

namespace ito::testing {

bool on_virtual_gpu() {
    return false;
}

void for_each_schedule(const std::function<void()>& body) {
    body();
}

void for_each_profile(const std::function<void()>& body) {
    body();
}

std::vector<vgpu::Counters> counted(const std::function<void()>& body) {
    body();
    return {};
}

bool fail_next(const std::string&, unsigned, int) {
    return false;
}

bool written(const void*, std::size_t) {
    return true;
}

bool without_driver(const std::function<void()>&) {
    return false;
}

std::string faults() {
    return {};
}

void forget_faults() {}

std::string not_given_back() {
    return {};
}

}  // namespace ito::testing
