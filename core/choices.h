#pragma once
// Which variants of CUDA kernels run: found by timing at the first call of a size, kept for the process, and to be saved beside a
// checkpoint, so that a resumed training repeats the bits of the one that was interrupted (kernels/common/choices.h).

#include <map>
#include <string>
#include <vector>

#include "core/device.h"

namespace ito {

/// Kernel, type and sizes -> variant, both readable.
using VariantMap = std::map<std::string, std::string>;

/// Off: the first guess is taken without timing, the same in every process. At first on. For all devices.
void set_autotune(bool on);
bool autotune();

/// What has been chosen on the device so far; empty on the CPU, which chooses by size alone.
VariantMap variant_choices(Device device);
/// Replaces those choices: they win over timing. One that is not possible on this device or with these libraries is chosen
/// again, and take_choice_notices() says so. Nothing on the CPU.
void set_variant_choices(Device device, VariantMap choices);
/// Lines for the user since the last call.
std::vector<std::string> take_choice_notices(Device device);

/// An object of strings, sorted, one choice a line.
std::string choices_to_json(const VariantMap& choices);
/// The reverse. Throws Error that names `source` if the text is something else.
VariantMap choices_from_json(const std::string& text, const std::string& source);

/// Why cuDNN is not used on the device, in one line for the user; empty where it is, and on the CPU.
std::string why_no_cudnn(Device device);

}  // namespace ito
