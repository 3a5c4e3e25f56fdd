#pragma once
// report.html: what a training looked like, on one page that needs no network.

#include <string>
#include <utility>
#include <vector>

#include "diffusion/run/run.h"

namespace ito::diffusion {

/// Rows of a name and a value about the machine: {"processor", "Intel ..."}.
using ReportRows = std::vector<std::pair<std::string, std::string>>;

/// Writes report.html into the run: the figures, the latest sample grid, the curves of metrics.jsonl, the options,
/// the machine. Pictures are embedded, so the one file can be sent to somebody.
void write_report(const Run& run, const ReportRows& machine = {});

}  // namespace ito::diffusion
