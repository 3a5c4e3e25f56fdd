// `ito bench kernels`: how fast the CUDA kernels are, against a copy on the same device.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/kernel_bench/cases.h"
#include "apps/kernel_bench/machine.h"
#include "apps/kernel_bench/options.h"
#include "core/error.h"

namespace ito::apps::kernel_bench {
namespace {

using Json = nlohmann::ordered_json;
using kernels::Variant;

std::vector<Case> chosen(const std::string& filter, bool reduced) {
    std::vector<Case> all = all_cases(models(reduced));
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
            {"unique_bytes_per_floor", per(work.unique_bytes, c.floor_bytes)},
            {"sector_bytes_per_floor", per(32 * sectors, c.floor_bytes)},
            {"sectors_per_load", per(work.load_sectors, work.load_requests)},
            {"sectors_per_store", per(work.store_sectors, work.store_requests)},
            {"bank_conflicts", work.bank_conflicts},
            {"instructions_per_element", per(work.instructions, c.elements)}};
}

Json timed(const Case& c, const Timing& timing, double copy) {
    const double bytes_per_second = c.floor_bytes / timing.median_us * 1e6;
    return {{"median_us", timing.median_us},
            {"best_us", timing.best_us},
            {"gb_per_second", bytes_per_second / 1e9},
            {"share_of_copy", bytes_per_second / copy}};
}

void print_head(bool counts) {
    fmt::print("{:48} {:11} ", "kernel", "variant");
    if (counts) {
        fmt::print("{:>12} {:>13} {:>12} {:>13} {:>9} {:>13}\n", "unique/floor", "sectors/floor",
                   "sectors/load", "sectors/store", "conflicts", "instr/element");
    } else {
        fmt::print("{:>12} {:>13} {:>12} {:>13}\n", "median us", "best us", "GB/s", "of a copy");
    }
}

void print_row(const Case& c, Variant variant, const Json& row) {
    fmt::print("{:48} {:11} ", c.name(), name_of(variant));
    const auto number = [&](const char* key) { return row.at(key).get<double>(); };
    if (row.contains("not_run")) {
        fmt::print("{}\n", row.at("not_run").get<std::string>());
    } else if (row.contains("median_us")) {
        fmt::print("{:12.2f} {:13.2f} {:12.1f} {:11.1f} %\n", number("median_us"), number("best_us"),
                   number("gb_per_second"), 100 * number("share_of_copy"));
    } else {
        fmt::print("{:12.2f} {:13.2f} {:12.2f} {:13.2f} {:9.0f} {:13.1f}\n", number("unique_bytes_per_floor"),
                   number("sector_bytes_per_floor"), number("sectors_per_load"), number("sectors_per_store"),
                   number("bank_conflicts"), number("instructions_per_element"));
    }
}

}  // namespace

int run(const Options& options) {
    require(options.repeats >= 1 && options.repeats <= 10000, "--repeats {}: expected 1 to 10000",
            options.repeats);
    const Machine machine(options.device);
    const bool counts = machine.counts();
    const std::vector<Case> cases = chosen(options.filter, counts);
    Json report{{"device", machine.name()}, {"virtual", counts}};
    double copy = 0;
    if (counts) {
        report["sizes"] =
            "reduced: 2 images, 0.5 % of the parameters, an eighth of the channels of convolutions";
        if (!options.json)
            fmt::print("The virtual GPU as an {}: counters, no times. Sizes are {}.\n", machine.name(),
                       report["sizes"].get<std::string>());
    } else {
        copy = machine.copy_bytes_per_second(4 * machine.l2_bytes(), options.repeats);  // no cache holds that
        report["copy_gb_per_second"] = copy / 1e9;
        report["repeats"] = options.repeats;
        if (!options.json)
            fmt::print("{}: device-to-device copy {:.0f} GB/s, L2 cache {:.0f} MiB\n", machine.name(),
                       copy / 1e9, static_cast<double>(machine.l2_bytes()) / (1 << 20));
    }
    if (!options.json) print_head(counts);

    report["results"] = Json::array();
    for (const Case& c : cases) {
        const Prepared prepared = machine.prepare(c, counts ? 0 : machine.l2_bytes());
        std::vector<Variant> variants{Variant::best};
        variants.insert(variants.end(), c.variants.begin(), c.variants.end());
        for (const Variant variant : variants) {
            Json row{{"kernel", c.kernel},
                     {"type", name_of(c.type)},
                     {"model", c.model},
                     {"shape", c.shape},
                     {"variant", name_of(variant)},
                     {"elements", static_cast<std::int64_t>(c.elements)},
                     {"floor_bytes", static_cast<std::int64_t>(c.floor_bytes)}};
            try {
                machine.try_once(prepared, variant);
                row.update(counts ? counted(c, machine.count(prepared, variant))
                                  : timed(c, machine.time(prepared, variant, options.repeats), copy));
            } catch (const kernels::CudaError&) {
                throw;
            } catch (const Error& error) {  // not every variant takes every shape
                row["not_run"] = error.what();
            }
            if (!options.json) print_row(c, variant, row);
            report["results"].push_back(std::move(row));
        }
    }
    if (options.json) fmt::print("{}\n", report.dump(2));
    return 0;
}

}  // namespace ito::apps::kernel_bench
