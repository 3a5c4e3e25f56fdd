// A safetensors file, header and tensors: what was accepted, written and read again is the same.

#include "core/io/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(safetensors) {
    static const testing::TemporaryFolder folder;
    SafetensorsContent content;
    if (!fuzz::accepts([&] { content = parse_safetensors(input, "f"); })) return;

    std::vector<SafetensorsItem> items;
    std::size_t bytes = 0;
    for (const auto& [name, entry] : content.tensors) {
        items.push_back({name, entry.dtype, entry.shape, entry.in(input)});
        bytes += entry.bytes;
    }
    fuzz::expect(bytes <= input.size(), "{} bytes of tensors in a file of {}", bytes, input.size());
    write_safetensors(folder / "w", items, content.metadata);
    const SafetensorsFile again(folder / "w");
    fuzz::expect(again.metadata() == content.metadata, "other metadata after writing");
    fuzz::expect(again.tensors().size() == items.size(), "{} tensors became {}", items.size(),
                 again.tensors().size());
    for (const SafetensorsItem& item : items) {
        const SafetensorsEntry& entry = again.at(item.name, item.shape);
        fuzz::expect(entry.dtype == item.dtype && std::ranges::equal(again.read(entry), item.data),
                     "tensor {} is another after writing", item.name);
    }
}
