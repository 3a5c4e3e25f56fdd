// CIFAR-10's test_batch.bin with its batches.meta.txt. The first byte is the length of the latter, which follows if it
// is not 0; the rest is the batch.

#include "diffusion/data/cifar10.h"
#include "tests/support/temporary_folder.h"
#include "tools/fuzz/fuzz.h"

using namespace ito;

ITO_FUZZ_TARGET(cifar10) {
    static const testing::TemporaryFolder folder;
    const std::string_view names = fuzz::text_of(fuzz::take(input, fuzz::take_byte(input)));
    const std::string_view batch = fuzz::text_of(input);
    std::filesystem::remove(folder / "batches.meta.txt");
    if (!names.empty()) folder.write("batches.meta.txt", names);
    folder.write("test_batch.bin", batch);
    diffusion::Dataset data;
    if (!fuzz::accepts([&] { data = diffusion::load_cifar10(folder.path(), diffusion::Split::test); }))
        return;

    fuzz::expect(data.label_names.size() == 10, "{} class names", data.label_names.size());
    std::string again;
    for (std::int64_t i = 0; i < data.count; ++i) {
        again += static_cast<char>(data.labels[static_cast<std::size_t>(i)]);
        const auto pixels = data.image(i);
        for (std::size_t c = 0; c < 3; ++c)
            for (std::size_t p = c; p < pixels.size(); p += 3) again += static_cast<char>(pixels[p]);
    }
    fuzz::expect(again == batch, "the records are not those of the file");
}
