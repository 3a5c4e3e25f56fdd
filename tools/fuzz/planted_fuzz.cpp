// A parser with a mistake in it: shows that tools/fuzz/run and the replaying program see one.

#include <stdexcept>

#include "tools/fuzz/fuzz.h"

ITO_FUZZ_TARGET(planted) {
    if (ito::fuzz::text_of(input).starts_with("bad")) throw std::runtime_error("the planted mistake");
}
