// Which operations are ordered: vector clocks, and the check behind missing_event.
//
// Every operation carries the clock of what comes before it. Every four bytes of device memory name the
// operation that last wrote them and the operation, or the set of unordered operations, that read them since.
// An access whose clock does not contain the other access, one of the two a write, is a missing event,
// whatever order this run took.
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {

std::atomic<std::uint32_t> current_operation{0};

namespace detail {
namespace {

struct Record {
    std::uint32_t lane = 0;
    std::uint32_t sequence = 0;
    const std::string* name = nullptr;
    std::vector<std::uint32_t> members;  // not empty: a set of readers, none before another
};

struct Table {
    std::mutex mutex;
    // Of the operations from `first` on. Those before it come before all that is queued later.
    std::deque<Record> records;
    std::uint32_t first = 1;
    std::set<std::string> names;
    std::map<std::vector<std::uint32_t>, std::uint32_t> sets;
    std::set<std::pair<std::uint32_t, std::uint32_t>> reported;
    const Operation* running = nullptr;
};

const Record& record_of(const Table& t, std::uint32_t entry) {
    return t.records[entry - t.first];
}

std::uint32_t next_number(const Table& t) {
    return t.first + static_cast<std::uint32_t>(t.records.size());
}

Table& table() {
    static auto& instance = *new Table;
    return instance;
}

bool before(const Record& record, const Clock& clock) {
    return record.lane < clock.size() && clock[record.lane] >= record.sequence;
}

// The first operation of this entry, or 0, that does not come before the running one.
std::uint32_t unordered(const Table& t, std::uint32_t entry) {
    if (entry < t.first || entry == t.running->number) {
        return 0;
    }
    const Record& record = record_of(t, entry);
    if (record.members.empty()) {
        return before(record, t.running->clock) ? 0 : entry;
    }
    for (const std::uint32_t member : record.members) {
        if (member != t.running->number && !before(record_of(t, member), t.running->clock)) {
            return member;
        }
    }
    return 0;
}

std::uint32_t with_reader(Table& t, std::uint32_t entry) {
    if (entry < t.first) {
        return t.running->number;
    }
    const Record& record = record_of(t, entry);
    std::vector<std::uint32_t> members;
    const auto keep = [&](std::uint32_t member) {
        if (member != t.running->number && !before(record_of(t, member), t.running->clock)) {
            members.push_back(member);
        }
    };
    if (record.members.empty()) {
        keep(entry);
    } else {
        std::for_each(record.members.begin(), record.members.end(), keep);
    }
    members.push_back(t.running->number);
    if (members.size() == 1) {
        return members[0];
    }
    std::sort(members.begin(), members.end());
    const auto [found, added] = t.sets.emplace(members, next_number(t));
    if (added) {
        Record set;
        set.members = std::move(members);
        t.records.push_back(std::move(set));
    }
    return found->second;
}

std::string without_stream(const std::string& name) {
    return name.substr(0, name.rfind(" (stream "));
}

void report_missing(std::uint32_t other, bool other_wrote, std::uint64_t address, bool write) {
    std::string earlier, now;
    {
        Table& t = table();
        std::lock_guard<std::mutex> lock(t.mutex);
        now = *record_of(t, t.running->number).name;
        earlier = *record_of(t, other).name;
        if (!t.reported.emplace(other, t.running->number).second) {
            return;
        }
    }
    Report entry;
    entry.kind = Fault::missing_event;
    entry.kernel = without_stream(now);
    entry.address = address;
    entry.size = 4;
    entry.text =
        now + (write ? " writes" : " reads") + " what " + earlier + (other_wrote ? " writes" : " reads") +
        ", and neither an event nor a synchronisation says which comes first; " + describe_address(address);
    report(std::move(entry));
}

// What is known about an entry of the shadow for the running operation, so that a kernel that reads a million
// words of one writer asks once.
struct Verdict {
    std::uint32_t running = 0, entry = 0, conflict = 0, reader = 0;
};

Verdict judge(std::uint32_t running, std::uint32_t entry, bool as_reader) {
    thread_local Verdict cache[2][64];
    Verdict& cached = cache[as_reader ? 1 : 0][entry % 64];
    if (cached.running != running || cached.entry != entry) {
        Table& t = table();
        std::lock_guard<std::mutex> lock(t.mutex);
        cached = {running, entry, unordered(t, entry), as_reader ? with_reader(t, entry) : 0};
    }
    return cached;
}

}  // namespace

void join(Clock& into, const Clock& from) {
    if (into.size() < from.size()) {
        into.resize(from.size(), 0);
    }
    for (std::size_t lane = 0; lane < from.size(); ++lane) {
        into[lane] = std::max(into[lane], from[lane]);
    }
}

std::uint32_t next_operation_number(std::uint32_t lane, std::uint32_t sequence, const std::string& name) {
    Table& t = table();
    std::lock_guard<std::mutex> lock(t.mutex);
    Record record;
    record.lane = lane;
    record.sequence = sequence;
    record.name = &*t.names.insert(name).first;
    const std::uint32_t number = next_number(t);
    t.records.push_back(std::move(record));
    return number;
}

std::string operation_name(std::uint32_t number) {
    Table& t = table();
    std::lock_guard<std::mutex> lock(t.mutex);
    const bool known = number >= t.first && number < next_number(t) && record_of(t, number).name != nullptr;
    return known ? without_stream(*record_of(t, number).name) : std::string();
}

void forget_operations() {
    Table& t = table();
    std::lock_guard<std::mutex> lock(t.mutex);
    t.first = next_number(t);
    t.records.clear();
    t.sets.clear();
    t.names.clear();
    t.reported.clear();
}

void set_current(const Operation* operation) {
    Table& t = table();
    std::lock_guard<std::mutex> lock(t.mutex);
    t.running = operation;
    current_operation.store(operation == nullptr ? 0 : operation->number);
}

void note_access_slowly(const Allocation& allocation, std::size_t word, std::uint64_t address, bool write) {
    const std::uint32_t running = current_operation.load(std::memory_order_relaxed);
    std::uint32_t& writer = allocation.written_by[word];
    std::uint32_t& reader = allocation.read_by[word];
    if (writer != 0 && writer != running) {
        const Verdict verdict = judge(running, writer, false);
        if (verdict.conflict != 0) {
            report_missing(verdict.conflict, true, address, write);
        }
    }
    if (!write) {
        reader = reader == 0 ? running : judge(running, reader, true).reader;
        return;
    }
    if (reader != 0 && reader != running) {
        const Verdict verdict = judge(running, reader, false);
        if (verdict.conflict != 0) {
            report_missing(verdict.conflict, false, address, write);
        }
    }
    writer = running;
    reader = 0;
}

}  // namespace detail
}  // namespace vgpu
