// metrics.jsonl, by both that read it: the log that goes on in it after a resume, and the report. The first two bytes
// are the steps that the checkpoint holds.

#include "diffusion/report/report.h"
#include "diffusion/run/metrics.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(metrics) {
    static const testing::TemporaryFolder folder;
    const std::size_t high = fuzz::take_byte(input), steps = high << 8 | fuzz::take_byte(input);
    const auto steps_done = static_cast<std::int64_t>(steps);
    folder.write("config.json", "{}\n");
    const auto path = folder.write("metrics.jsonl", fuzz::text_of(input));
    const diffusion::Run run(folder.path());
    fuzz::accepts([&] { diffusion::write_report(run); });

    double seconds = 0;
    const auto resume = [&] { seconds = diffusion::MetricsLog(path, steps_done).seconds_before(); };
    if (!fuzz::accepts(resume)) return;
    // What was kept is kept by the next resume from the same checkpoint, and from then on the seconds too: the first may
    // have taken them from a line that it dropped.
    const std::string kept = testing::TemporaryFolder::read(path);
    resume();
    const double before = seconds;
    resume();
    fuzz::expect(testing::TemporaryFolder::read(path) == kept && seconds == before,
                 "resumed again, not kept: {}", kept);
}
