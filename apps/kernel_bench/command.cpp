// `ito bench kernels`: how fast the kernels of a device are, compared with a copy within its memory.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/kernel_bench/cases.h"
#include "apps/kernel_bench/machine.h"
#include "apps/kernel_bench/options.h"
#include "core/context.h"
#include "core/error.h"

namespace ito::apps::kernel_bench {
namespace {

using Json = nlohmann::ordered_json;
using kernels::Variant;

std::vector<Case> chosen(const std::string& filter, const Machine& machine) {
    std::vector<Case> all = all_cases(machine.device(), machine.counts());
    const std::size_t count = all.size();
    std::erase_if(all, [&](const Case& c) { return c.name().find(filter) == std::string::npos; });
    require(!all.empty(),
            "--filter {}: in none of the {} names, which are kernel/type/model/shape, such as "
            "silu_forward/float32/mnist/64x128",
            filter, count);
    return all;
}

double per(double a, double b) {
    return b > 0 ? a / b : 0;
}

/// Counters have no time; times have no counters.
Json counted(const Case& c, const Work& work) {
    const double sectors = work.load_sectors + work.store_sectors;
    return {{"kernels_launched", work.kernels},
            {"unique_bytes", work.unique_bytes},
            {"unique_bytes_per_minimum", per(work.unique_bytes, c.minimum_bytes)},
            {"sector_bytes_per_minimum", per(32 * sectors, c.minimum_bytes)},
            {"sectors_per_load", per(work.load_sectors, work.load_requests)},
            {"sectors_per_store", per(work.store_sectors, work.store_requests)},
            {"bank_conflicts", work.bank_conflicts},
            {"instructions_per_element", per(work.instructions, c.elements)}};
}

Json timed(const Case& c, const Timing& timing, double copy) {
    const double bytes_per_second = c.minimum_bytes / timing.median_us * 1e6;
    Json row{{"median_us", timing.median_us},
             {"best_us", timing.best_us},
             {"gb_per_second", bytes_per_second / 1e9},
             {"share_of_copy", bytes_per_second / copy}};
    if (c.operations > 0) row["flops_per_second"] = c.operations / timing.median_us * 1e6;
    return row;
}

void print_head(bool counts) {
    fmt::print("{:58} {:11} ", "kernel", "variant");
    if (counts) {
        fmt::print("{:>14} {:>15} {:>12} {:>13} {:>9} {:>13}\n", "unique/minimum", "sectors/minimum",
                   "sectors/load", "sectors/store", "conflicts", "instr/element");
    } else {
        fmt::print("{:>12} {:>13} {:>12} {:>13} {:>12}\n", "median us", "best us", "GB/s", "of a copy",
                   "GFLOP/s");
    }
}

void print_row(const Case& c, const Json& row) {
    fmt::print("{:58} {:11} ", c.name(), row.at("variant").get<std::string>());
    const auto number = [&](const char* key) { return row.at(key).get<double>(); };
    if (row.contains("not_run")) {
        fmt::print("{}\n", row.at("not_run").get<std::string>());
    } else if (row.contains("median_us")) {
        const std::string flops = row.contains("flops_per_second")
                                      ? fmt::format(" {:12.1f}", number("flops_per_second") / 1e9)
                                      : "";
        fmt::print("{:12.2f} {:13.2f} {:12.1f} {:11.1f} %{}\n", number("median_us"), number("best_us"),
                   number("gb_per_second"), 100 * number("share_of_copy"), flops);
    } else {
        fmt::print("{:14.2f} {:15.2f} {:12.2f} {:13.2f} {:9.0f} {:13.1f}\n",
                   number("unique_bytes_per_minimum"), number("sector_bytes_per_minimum"),
                   number("sectors_per_load"), number("sectors_per_store"), number("bank_conflicts"),
                   number("instructions_per_element"));
    }
}

}  // namespace

int run(const Options& options) {
    require(options.repeats >= 1 && options.repeats <= 10000, "--repeats {}: expected 1 to 10000",
            options.repeats);
    require(options.threads >= 0 && options.threads <= 1024, "--threads {}: expected 0 (all) to 1024",
            options.threads);
    if (options.threads > 0) set_threads(options.threads);
    const std::unique_ptr<const Machine> made = make_machine(Device::parse(options.device));
    const Machine& machine = *made;
    const bool on_cpu = machine.device().is_cpu(), counts = machine.counts();
    const std::vector<Case> cases = chosen(options.filter, machine);
    Json report{{"device", machine.name()}, {"virtual", counts}};
    double copy = 0;
    if (counts) {
        report["sizes"] =
            "reduced: 2 images, 0.5 % of the parameters, an eighth of the channels of convolutions";
        if (!options.json)
            fmt::print("The virtual GPU as an {}: counters, no times. Sizes are {}.\n", machine.name(),
                       report["sizes"].get<std::string>());
    } else {
        copy = machine.copy_bytes_per_second(4 * machine.cache_bytes(), options.repeats);
        report["copy_gb_per_second"] = copy / 1e9;
        report["repeats"] = options.repeats;
        if (on_cpu) report["threads"] = threads();
        if (!options.json)
            fmt::print("{}{}: a copy within its memory moves {:.1f} GB/s, cache {:.0f} MiB\n", machine.name(),
                       on_cpu ? fmt::format(", {} thread{}", threads(), threads() == 1 ? "" : "s") : "",
                       copy / 1e9, static_cast<double>(machine.cache_bytes()) / (1 << 20));
    }
    if (!options.json) print_head(counts);

    report["results"] = Json::array();
    for (const Case& c : cases) {
        const Prepared prepared = machine.prepare(c, counts ? 0 : machine.cache_bytes());
        std::vector<Variant> variants{Variant::best};
        if (!on_cpu) variants.insert(variants.end(), c.variants.begin(), c.variants.end());
        for (const Variant variant : variants) {
            Json row{{"kernel", c.kernel},
                     {"type", name_of(c.type)},
                     {"model", c.model},
                     {"shape", c.shape},
                     {"variant", on_cpu ? "cpu" : name_of(variant)},
                     {"elements", static_cast<std::int64_t>(c.elements)},
                     {"minimum_bytes", static_cast<std::int64_t>(c.minimum_bytes)}};
            if (const std::string why = machine.try_once(prepared, variant); !why.empty()) {
                row["not_run"] = why;
            } else {
                row.update(counts ? counted(c, machine.count(prepared, variant))
                                  : timed(c, machine.time(prepared, variant, options.repeats), copy));
            }
            if (!options.json) print_row(c, row);
            report["results"].push_back(std::move(row));
        }
    }
    if (options.json) fmt::print("{}\n", report.dump(2));
    return 0;
}

}  // namespace ito::apps::kernel_bench
