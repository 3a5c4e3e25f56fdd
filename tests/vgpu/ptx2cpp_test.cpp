// The translator's command line: what it refuses, and how it says so.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

struct Outcome {
    int status;
    std::string text;
};

class Ptx2Cpp : public testing::Test {
  protected:
    void SetUp() override {
        dir_ = std::filesystem::temp_directory_path() / ("ptx2cpp_test." + std::to_string(getpid()));
        std::filesystem::create_directories(dir_);
    }
    void TearDown() override { std::filesystem::remove_all(dir_); }

    Outcome translate(const std::string& body) {
        std::ofstream(dir_ / "in.ptx")
            << ".version 9.0\n.target sm_80\n.address_size 64\n"
               ".visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n"
               ".loc 1 42 0\n"
            << body << "\nret;\n}\n.file 1 \"kernel.cu\"\n";
        const std::string command = std::string(VGPU_PTX2CPP) + " " + (dir_ / "in.ptx").string() + " -o " +
                                    (dir_ / "out.cpp").string() + " 2>&1";
        Outcome result{-1, ""};
        FILE* pipe = popen(command.c_str(), "r");
        std::array<char, 512> buffer{};
        while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
            result.text += buffer.data();
        }
        result.status = pclose(pipe);
        return result;
    }
    std::filesystem::path dir_;
};

TEST_F(Ptx2Cpp, Translates) {
    const Outcome o = translate("add.s32 %r1, %r2, 5;");
    EXPECT_EQ(0, o.status) << o.text;
    EXPECT_TRUE(std::filesystem::exists(dir_ / "out.cpp"));
}

TEST_F(Ptx2Cpp, NamesAnUnknownInstructionAndItsLines) {
    const Outcome o = translate("frobnicate.s32 %r1, %r2;");
    EXPECT_NE(0, o.status);
    EXPECT_NE(std::string::npos,
              o.text.find("in.ptx:9: instruction frobnicate.s32: not known (kernel.cu:42)"))
        << o.text;
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out.cpp"));
}

TEST_F(Ptx2Cpp, RefusesWhatItWouldHaveToGuess) {
    for (const char* line :
         {"tex.1d.v4.f32.s32 {%r1, %r2, %r3, %r4}, [p, {%r5}];",
          "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%rd1,%rd2}, {%rd3}, {%rd4}, {%rd1,%rd2};",
          "ld.global.v8.u32 %r1, [%rd1];", "barrier.cluster.arrive.aligned;", "cp.async.bulk.commit_group;",
          "add.s32 %r1, %r2, %undeclared;", "mov.u32 %r1, nowhere;", "bra missing;",
          "mov.u32 %r1, %clusterthing;"}) {
        const Outcome o = translate(line);
        EXPECT_NE(0, o.status) << line;
        EXPECT_NE(std::string::npos, o.text.find("ptx2cpp:")) << o.text;
    }
}

}  // namespace
