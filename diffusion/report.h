#pragma once
// report.html: what a training looked like, on one page that needs no network.

#include "diffusion/run.h"

namespace ito::diffusion {

/// Writes report.html into the run: the curves of loss, gradient norm, learning rate and speed from metrics.jsonl,
/// the latest sample grid, the options. Pictures are embedded, so the one file can be sent to somebody.
void write_report(const Run& run);

}  // namespace ito::diffusion
