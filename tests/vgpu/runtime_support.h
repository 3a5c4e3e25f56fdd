// What the tests of the virtual GPU's runtime share.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tools/vgpu/control.h"
#include "tools/vgpu/enqueue.h"
#include "tools/vgpu/memory.h"
#include "tools/vgpu/report.h"

namespace vgpu_test {

// Starts and ends with a fresh device; reports are collected instead of printed.
class Runtime : public testing::Test {
  protected:
    void SetUp() override {
        vgpu::reset();
        vgpu::set_report_handler([](const vgpu::Report&) {});
    }
    void TearDown() override { vgpu::reset(); }

    static std::size_t count(vgpu::Fault kind) {
        const auto all = vgpu::reports();
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [&](const vgpu::Report& r) { return r.kind == kind; }));
    }
    static vgpu::Report first(vgpu::Fault kind) {
        for (const vgpu::Report& entry : vgpu::reports()) {
            if (entry.kind == kind) {
                return entry;
            }
        }
        ADD_FAILURE() << "no report of: " << vgpu::fault_name(kind);
        return {};
    }
    static std::string all_reports() {
        std::string text;
        for (const vgpu::Report& entry : vgpu::reports()) {
            text += to_string(entry) + "\n";
        }
        return text;
    }
};

#define EXPECT_CUDA(call) EXPECT_EQ(cudaSuccess, (call)) << all_reports()
#define ASSERT_CUDA(call) ASSERT_EQ(cudaSuccess, (call)) << all_reports()

template <class T>
T* device_array(std::size_t count) {
    void* pointer = nullptr;
    EXPECT_EQ(cudaSuccess, cudaMalloc(&pointer, count * sizeof(T)));
    return static_cast<T*>(pointer);
}

template <class T>
std::vector<T> to_host(const T* device, std::size_t count) {
    std::vector<T> host(count);
    EXPECT_EQ(cudaSuccess, cudaMemcpy(host.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
}

// y[i] = a * x[i] + b on the device, as a library call would be.
inline cudaError_t affine(const char* name, cudaStream_t stream, float* y, const float* x, std::size_t count,
                          float a, float b) {
    vgpu::Work work;
    work.name = name;
    work.identity = name;
    work.run = [=] {
        const auto* source = reinterpret_cast<const float*>(vgpu::device_read(x, count * sizeof(float)));
        auto* target = reinterpret_cast<float*>(vgpu::device_write(y, count * sizeof(float)));
        if (source != nullptr && target != nullptr) {
            for (std::size_t i = 0; i < count; ++i) {
                target[i] = a * source[i] + b;
            }
        }
    };
    return vgpu::enqueue(stream, std::move(work));
}

inline cudaStream_t make_stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, flags));
    return stream;
}

inline cudaEvent_t make_event() {
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaSuccess, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

}  // namespace vgpu_test
