// Variables of translated modules, as the host names them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace vgpu::detail {

struct Symbol {
    std::uint64_t address = 0;  // 0: no such symbol
    std::size_t size = 0;
    std::string name;
};
Symbol find_symbol(const void* host_variable);

}  // namespace vgpu::detail
