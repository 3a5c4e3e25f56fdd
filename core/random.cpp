#include "core/random.h"

namespace ito {
namespace {
thread_local const RandomStream* current_stream = nullptr;
}

RandomScope::RandomScope(const RandomStream& stream) : stream_(stream), outer_(current_stream) {
    current_stream = &stream_;
}

RandomScope::~RandomScope() {
    current_stream = outer_;
}

const RandomStream* RandomScope::current() {
    return current_stream;
}

}  // namespace ito
