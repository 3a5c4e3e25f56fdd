#include "tools/vgpu/executor/counters.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "tools/vgpu/control.h"
#include "tools/vgpu/executor/executor.h"
#include "tools/vgpu/memory.h"

namespace vgpu {
namespace {

std::mutex mutex;
std::map<std::pair<std::string, std::uint64_t>, Counters>& all_counters() {
    static std::map<std::pair<std::string, std::uint64_t>, Counters> all;
    return all;
}

void print_at_exit() {
    std::fputs(counters_table().c_str(), stderr);
}

std::atomic<bool>& enabled() {
    static std::atomic<bool> on = [] {
        all_counters();  // must outlive the table printed at exit
        const char* text = std::getenv("VGPU_COUNTERS");
        const bool wanted = text != nullptr && *text != '\0' && *text != '0';
        if (wanted) {
            std::atexit(print_at_exit);
        }
        return wanted;
    }();
    return on;
}

}  // namespace

const char* instruction_kind_name(InstructionKind kind) {
    static const char* const names[] = {"integer", "floating", "special", "conversion", "global",  "shared",
                                        "local",   "atomic",   "control", "barrier",    "shuffle", "matrix"};
    return names[static_cast<int>(kind)];
}

void enable_counters(bool on) {
    enabled() = on;
}

std::vector<Counters> counters() {
    const std::lock_guard lock(mutex);
    std::vector<Counters> result;
    for (const auto& [key, value] : all_counters()) {
        result.push_back(value);
    }
    return result;
}

void reset_counters() {
    const std::lock_guard lock(mutex);
    all_counters().clear();
}

void count_library_call(const Counters& call) {
    if (!enabled()) {
        return;
    }
    const std::lock_guard lock(mutex);
    Counters& sum = all_counters()[{call.kernel, 0}];
    sum.kernel = call.kernel;
    sum.launches += call.launches;
    sum.bytes_read += call.bytes_read;
    sum.bytes_written += call.bytes_written;
    sum.unique_bytes_read += call.unique_bytes_read;
    sum.unique_bytes_written += call.unique_bytes_written;
}

std::string counters_table() {
    std::string out;
    char line[512];
    for (const Counters& c : counters()) {
        std::snprintf(line, sizeof(line), "%s (%s:%d)\n  %llu launches, %llu blocks, %llu threads\n ",
                      c.kernel.c_str(), c.file.c_str(), c.line, static_cast<unsigned long long>(c.launches),
                      static_cast<unsigned long long>(c.blocks), static_cast<unsigned long long>(c.threads));
        out += line;
        for (int k = 0; k < static_cast<int>(InstructionKind::count); ++k) {
            if (c.instructions[k] != 0) {
                std::snprintf(line, sizeof(line), " %s %llu",
                              instruction_kind_name(static_cast<InstructionKind>(k)),
                              static_cast<unsigned long long>(c.instructions[k]));
                out += line;
            }
        }
        const auto ratio = [](std::uint64_t a, std::uint64_t b) {
            return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
        };
        std::snprintf(
            line, sizeof(line),
            "\n  global loads: %llu requests, %.2f sectors each; stores: %llu requests, %.2f sectors each\n"
            "  shared: %llu requests, %llu bank conflicts\n"
            "  bytes read %llu (unique %llu), written %llu (unique %llu)\n",
            static_cast<unsigned long long>(c.global_load_requests),
            ratio(c.global_load_sectors, c.global_load_requests),
            static_cast<unsigned long long>(c.global_store_requests),
            ratio(c.global_store_sectors, c.global_store_requests),
            static_cast<unsigned long long>(c.shared_requests),
            static_cast<unsigned long long>(c.bank_conflicts), static_cast<unsigned long long>(c.bytes_read),
            static_cast<unsigned long long>(c.unique_bytes_read),
            static_cast<unsigned long long>(c.bytes_written),
            static_cast<unsigned long long>(c.unique_bytes_written));
        out += line;
    }
    return out;
}

}  // namespace vgpu

// Here and not in a file of their own: a weak reference alone takes nothing out of an archive.
void vgpu_count(int on) {
    if (on != 0) {
        vgpu::reset_counters();
    }
    vgpu::enable_counters(on != 0);
}

unsigned long long vgpu_counter(const char* name) {
    using vgpu::Counters;
    static const std::map<std::string, std::uint64_t Counters::*> fields{
        {"launches", &Counters::launches},
        {"blocks", &Counters::blocks},
        {"threads", &Counters::threads},
        {"global_load_requests", &Counters::global_load_requests},
        {"global_load_sectors", &Counters::global_load_sectors},
        {"global_store_requests", &Counters::global_store_requests},
        {"global_store_sectors", &Counters::global_store_sectors},
        {"shared_requests", &Counters::shared_requests},
        {"shared_passes", &Counters::shared_passes},
        {"bank_conflicts", &Counters::bank_conflicts},
        {"bytes_read", &Counters::bytes_read},
        {"bytes_written", &Counters::bytes_written},
        {"unique_bytes_read", &Counters::unique_bytes_read},
        {"unique_bytes_written", &Counters::unique_bytes_written},
    };
    const bool instructions = name == std::string("instructions");
    const auto field = fields.find(name);
    if (!instructions && field == fields.end()) {
        std::fprintf(stderr, "vgpu_counter: there is no counter %s\n", name);
        std::abort();
    }
    unsigned long long sum = 0;
    for (const Counters& c : vgpu::counters()) {
        if (!instructions) {
            sum += c.*field->second;
            continue;
        }
        for (const std::uint64_t kind : c.instructions) {
            sum += kind;
        }
    }
    return sum;
}

namespace vgpu::device {

bool CounterStore::begin_launch(Executor& e) {
    if (!enabled()) {
        return false;
    }
    counters_ = Counters{};
    counters_.kernel = e.kernel()->name;
    counters_.file = e.kernel()->file;
    counters_.line = e.kernel()->line;
    counters_.launches = 1;
    counters_.blocks = U64{e.grid_size[0]} * e.grid_size[1] * e.grid_size[2];
    counters_.threads = counters_.blocks * e.thread_count();
    return true;
}

void CounterStore::end_launch(Executor& e) {
    if (!e.counting) {
        return;
    }
    for (U32 b = 0; b < e.module().block_count; ++b) {
        for (int k = 0; k < static_cast<int>(InstructionKind::count); ++k) {
            counters_.instructions[k] += e.runs[b] * e.module().blocks[b].counts[k];
        }
    }
    const auto bits = [](const std::vector<U64>& words) {
        U64 sum = 0;
        for (const U64 w : words) {
            sum += static_cast<U64>(__builtin_popcountl(w));
        }
        return sum;
    };
    for (const auto& [allocation, touched] : touched_) {
        counters_.unique_bytes_read += bits(touched.read);
        counters_.unique_bytes_written += bits(touched.written);
    }
    touched_.clear();
    const std::lock_guard lock(mutex);
    Counters& total = all_counters()[{counters_.kernel, e.module().id}];
    Counters sum = counters_;
    sum.launches += total.launches;
    sum.blocks += total.blocks;
    sum.threads += total.threads;
    for (int k = 0; k < static_cast<int>(InstructionKind::count); ++k) {
        sum.instructions[k] += total.instructions[k];
    }
    sum.global_load_requests += total.global_load_requests;
    sum.global_load_sectors += total.global_load_sectors;
    sum.global_store_requests += total.global_store_requests;
    sum.global_store_sectors += total.global_store_sectors;
    sum.shared_requests += total.shared_requests;
    sum.shared_passes += total.shared_passes;
    sum.bank_conflicts += total.bank_conflicts;
    sum.bytes_read += total.bytes_read;
    sum.bytes_written += total.bytes_written;
    sum.unique_bytes_read += total.unique_bytes_read;
    sum.unique_bytes_written += total.unique_bytes_written;
    total = sum;
}

CounterStore::Open& CounterStore::open(Executor&, Thread& t, U32 site) {
    return open_[U64{t.warp()} << 32 | site];
}

void CounterStore::global(Executor& e, Thread& t, U64 address, U32 size, U32 site, bool write) {
    Open& o = open(e, t, site);
    o.write = write;
    const U32 instance = o.executed[t.lane()]++;
    if (instance >= o.global.size()) {
        o.global.resize(instance + 1);
    }
    GlobalRequest& r = o.global[instance];
    const U64 sector = address / 32;
    if (r.bits == 0) {
        r.base = sector > 32 ? sector - 32 : 0;
    }
    const U64 k = sector - r.base;
    if (k < 64) {
        r.bits |= U64{1} << k;
    } else if (std::find(r.more.begin(), r.more.end(), sector) == r.more.end()) {
        r.more.push_back(sector);
    }
    (write ? counters_.bytes_written : counters_.bytes_read) += size;
    const Allocation* a = e.views[site].allocation;
    Touched& touched = touched_[a];
    std::vector<U64>& words = write ? touched.written : touched.read;
    if (words.empty()) {
        words.resize((a->size + 63) / 64);
    }
    const U64 first = address - a->address;
    for (U64 byte = first; byte < first + size; ++byte) {
        words[byte / 64] |= U64{1} << (byte % 64);
    }
}

void CounterStore::shared(Executor& e, Thread& t, U32 address, U32 size, U32 site) {
    Open& o = open(e, t, site);
    o.is_shared = true;
    const U32 instance = o.executed[t.lane()]++;
    if (instance >= o.shared.size()) {
        o.shared.resize(instance + 1);
    }
    SharedRequest& r = o.shared[instance];
    r.mask |= 1u << t.lane();
    r.size = size;
    r.address[t.lane()] = address;
}

void CounterStore::close(Open& o) {
    for (const GlobalRequest& r : o.global) {
        const U64 sectors = static_cast<U64>(__builtin_popcountl(r.bits)) + r.more.size();
        (o.write ? counters_.global_store_requests : counters_.global_load_requests) += 1;
        (o.write ? counters_.global_store_sectors : counters_.global_load_sectors) += sectors;
    }
    for (const SharedRequest& r : o.shared) {
        // 8-byte accesses are served by half warps, 16-byte ones by quarters.
        const U32 lanes = r.size <= 4 ? 32 : r.size == 8 ? 16 : 8;
        ++counters_.shared_requests;
        for (U32 first = 0; first < 32; first += lanes) {
            U32 words[32][32];
            U32 count[32] = {};
            U32 passes = 0;
            for (U32 l = first; l < first + lanes; ++l) {
                if ((r.mask >> l & 1) == 0) {
                    continue;
                }
                for (U32 w = r.address[l] / 4; w <= (r.address[l] + r.size - 1) / 4; ++w) {
                    U32* const end = words[w % 32] + count[w % 32];
                    if (std::find(words[w % 32], end, w) == end) {
                        *end = w;
                        passes = std::max(passes, ++count[w % 32]);
                    }
                }
            }
            if (passes != 0) {
                counters_.shared_passes += passes;
                counters_.bank_conflicts += passes - 1;
            }
        }
    }
}

void CounterStore::end_group(Executor&) {
    for (auto& [key, o] : open_) {
        close(o);
        o.global.clear();
        o.shared.clear();
        std::fill(std::begin(o.executed), std::end(o.executed), 0);
    }
}

}  // namespace vgpu::device
