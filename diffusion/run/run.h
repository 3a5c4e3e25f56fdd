#pragma once
// A run directory: a diffusers pipeline, plus what training needs to go on.
//
//   model_index.json
//   unet/config.json, unet/diffusion_pytorch_model.safetensors    the EMA weights
//   scheduler/scheduler_config.json
//   trainer/step-00000500/{weights,ema,adam_m,adam_v}.safetensors, state.json
//   config.json      every resolved option of the training
//   config.toml      the same as TOML
//   left_out.json    with skip_broken: the files that were broken when the training began
//   .lock            held by the process that trains here (diffusion/run/run_lock.h)
//   metrics.jsonl    one line per logged step
//   samples/*.png    grids from the same noise
//   figures/         pictures of both processes, the loss (diffusion/report/figures.h)
//   tensorboard/     event files, with the option tensorboard (diffusion/report/tensorboard.h)
//   report.html      figures, curves and options on one page (diffusion/report/report.h)
//
// Every file, and the checkpoint folder as a whole, is written under a temporary name and renamed: a crash at
// any moment leaves the last good checkpoint.

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "diffusion/pipeline/scheduler_config.h"
#include "diffusion/run/files.h"
#include "nn/unet.h"

namespace ito::diffusion {

/// The paths in a run directory; nothing is read or written unless a function says so.
class Run {
  public:
    explicit Run(std::filesystem::path root)  // "run/" is "run": the folder has a name
        : root_(root.has_filename() ? std::move(root) : root.parent_path()) {}

    const std::filesystem::path& root() const { return root_; }
    std::filesystem::path config() const { return root_ / "config.json"; }
    std::filesystem::path config_toml() const { return root_ / "config.toml"; }
    std::filesystem::path left_out() const { return root_ / "left_out.json"; }
    std::filesystem::path lock() const { return root_ / ".lock"; }
    std::filesystem::path metrics() const { return root_ / "metrics.jsonl"; }
    std::filesystem::path samples() const { return root_ / "samples"; }
    std::filesystem::path report() const { return root_ / "report.html"; }
    std::filesystem::path figures() const { return root_ / "figures"; }
    std::filesystem::path tensorboard() const { return root_ / "tensorboard"; }
    std::filesystem::path trainer() const { return root_ / "trainer"; }
    std::filesystem::path unet_weights() const {
        return root_ / "unet" / "diffusion_pytorch_model.safetensors";
    }

    /// True if the folder holds a run (its config.json).
    bool exists() const { return std::filesystem::exists(config()); }
    /// True if a run may begin here: there is nothing, or an empty folder, or what a training left that ended before it had
    /// logged or saved anything (say, for want of memory).
    bool vacant() const;
    /// The folder of the checkpoint after `steps` steps.
    std::filesystem::path checkpoint(std::int64_t steps) const;
    /// The complete checkpoint with the highest step; none in a folder that diffusers saved.
    std::optional<std::filesystem::path> latest_checkpoint() const;
    /// The steps of all complete checkpoints, in order.
    std::vector<std::int64_t> checkpoint_steps() const;
    /// Removes all checkpoints but the `count` with the highest steps.
    void keep_latest_checkpoints(std::int64_t count) const;
    /// Removes what a training writes before its first checkpoint, so that another one may begin here. Only for the process
    /// that began the run; throws Error if there is a checkpoint.
    void discard() const;
    /// Removes the temporary files that a killed training left. Only for the one process that writes to the run.
    void remove_abandoned_files() const;

    /// Writes the pipeline's JSON files.
    void write_pipeline(const nn::UNetConfig& unet, const SchedulerConfig& scheduler) const;

  private:
    std::set<std::filesystem::path> first_files() const;
    std::set<std::filesystem::path> first_folders() const;

    std::filesystem::path root_;
};

/// The step in the name of a checkpoint's folder (500 of step-00000500); none for other names.
std::optional<std::int64_t> step_of_checkpoint(const std::filesystem::path& checkpoint);

}  // namespace ito::diffusion
