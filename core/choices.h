#pragma once
// Which variants of CUDA kernels run. The first call of a size times them; the choice is kept for the process. It is saved
// with a checkpoint, so that a resumed training repeats the bits of the interrupted one (kernels/common/choices.h).

#include <map>
#include <string>
#include <vector>

#include "core/device.h"

namespace ito {

/// Kernel, type and sizes -> variant, both readable.
using VariantMap = std::map<std::string, std::string>;

/// What was chosen on the device so far; empty on the CPU, which chooses by size alone.
VariantMap variant_choices(Device device);
/// Replaces those choices; they win over timing. A choice that this device or these libraries cannot follow is made again,
/// with a line in take_choice_notices(). Has no effect on the CPU.
void set_variant_choices(Device device, VariantMap choices);
/// Lines for the user since the last call.
std::vector<std::string> take_choice_notices(Device device);

/// As a JSON object of strings, sorted, one choice a line.
std::string choices_to_json(const VariantMap& choices);
/// The reverse. Throws Error naming `source` if the text is anything else.
VariantMap choices_from_json(const std::string& text, const std::string& source);

/// One line for the user that says why cuDNN is not used on the device. Empty if it is used, and on the CPU.
std::string why_no_cudnn(Device device);

}  // namespace ito
