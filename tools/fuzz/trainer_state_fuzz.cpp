// state.json of a checkpoint: what was accepted, written and read again is the same.

#include "diffusion/training/trainer_state.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(trainer_state) {
    diffusion::TrainerState state;
    const std::string text(fuzz::text_of(input));
    if (!fuzz::accepts([&] { state = diffusion::TrainerState::from_json(text, "f"); })) return;
    const std::string written = state.to_json();
    fuzz::expect(diffusion::TrainerState::from_json(written, "w") == state, "another state after {}",
                 written);
}
