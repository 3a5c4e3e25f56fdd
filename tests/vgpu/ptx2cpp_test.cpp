// The translator's command line: what it refuses, and how it says so.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>

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

    Outcome translate(const std::string& body) { return run(body, "-o " + (dir_ / "out.cpp").string()); }
    Outcome run(const std::string& body, const std::string& options) {
        std::ofstream(dir_ / "in.ptx")
            << ".version 9.0\n.target sm_80\n.address_size 64\n"
               ".visible .entry k(.param .u64 p)\n{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n"
               ".loc 1 42 0\n"
            << body << "\nret;\n}\n.file 1 \"kernel.cu\"\n";
        const std::string command =
            std::string(VGPU_PTX2CPP) + " " + (dir_ / "in.ptx").string() + " " + options + " 2>&1";
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

std::string changes(const std::string& list) {
    std::string result;
    std::istringstream lines(list);
    for (std::string line; std::getline(lines, line);) {
        result += line.substr(line.rfind('\t') + 1) + "; ";
    }
    return result;
}

TEST_F(Ptx2Cpp, ListsMutantsWithTheirPlaces) {
    const Outcome o = run("add.s32 %r1, %r2, 5;", "--list-mutants");
    EXPECT_EQ(0, o.status);
    EXPECT_EQ("0\tk\tkernel.cu\t42\tadd.s32\tsub for add\n", o.text);
    EXPECT_FALSE(std::filesystem::exists(dir_ / "out.cpp"));
}

TEST_F(Ptx2Cpp, KnowsMutantsOfEveryKind) {
    const std::pair<const char*, const char*> cases[] = {
        {"mul.lo.s32 %r1, %r2, %r3;", "add for mul; "},
        {"mul.wide.u32 %rd1, %r2, %r3;", "no mul; "},
        {"mad.lo.s32 %r1, %r2, %r3, %r4;", "no addend; addend and factor swapped; "},
        {".reg .f32 %f<9>; fma.rn.f32 %f1, %f2, %f3, %f4;", "no addend; addend and factor swapped; "},
        {".reg .f32 %f<9>; rcp.rn.f32 %f1, %f2;", "no rcp; "},
        {".reg .pred %p<2>; setp.lt.s32 %p1, %r1, %r2;", "le for lt; "},
        {".reg .pred %p<2>; selp.b32 %r1, %r2, %r3, %p1;", "choices swapped; "},
        {".reg .pred %p<2>; @%p1 bra L; L:", "branch never taken; branch always taken; "},
        {".reg .pred %p<2>; L: @%p1 bra L;", "branch never taken; "},  // always would not end
        {".reg .pred %p<2>; @%p1 mov.u32 %r1, %r2;", "predicate ignored; "},
        {"shl.b32 %r1, %r2, 3;", "shr for shl; shift by one more; "},
        {"shfl.sync.bfly.b32 %r1, %r2, 16, 31, -1;", "shuffle distance 8 for 16; "},
        {"shfl.sync.down.b32 %r1, %r2, 1, 31, -1;", "shuffle distance 2 for 1; "},
        {"ld.global.u32 %r1, [%rd1];", "address one element on; "},
        {"st.global.v2.u32 [%rd1+8], {%r1, %r2};", "address one element on; no st; "},
        {"bar.sync 0;", "no bar.sync; "},
        {"bar.warp.sync -1;", "no bar.warp.sync; "},
        {"cp.async.wait_group 0;", "no wait for copies; "},
        {"ld.param.u64 %rd1, [p];", ""},
        {"mov.u32 %r1, %tid.x;", ""},
    };
    for (const auto& [code, expected] : cases) {
        const Outcome o = run(code, "--list-mutants");
        EXPECT_EQ(0, o.status) << o.text;
        EXPECT_EQ(expected, changes(o.text)) << code;
        if (*expected != '\0') {
            const Outcome mutated = run(code, "--mutate 0 -o " + (dir_ / "out.cpp").string());
            EXPECT_EQ(0, mutated.status) << code << "\n" << mutated.text;
        }
    }
}

TEST_F(Ptx2Cpp, MutantsStandBesideTheOriginal) {
    const auto translated = [&](const std::string& options) {
        EXPECT_EQ(0,
                  run("st.global.u32 [%rd1+8], %r1;", options + " -o " + (dir_ / "out.cpp").string()).status);
        std::ifstream in(dir_ / "out.cpp");
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    const std::string plain = translated(""), mutated = translated("--mutate 0,1");
    EXPECT_EQ(std::string::npos, plain.find("mutant"));
    EXPECT_NE(std::string::npos, mutated.find("if (mutant == 0) { reach_mutant();"));
    EXPECT_NE(std::string::npos, mutated.find("if (mutant == 1) { reach_mutant(); } else {"));  // no store
    // The host object finds the module by its number, which is the original's.
    const auto id = [](const std::string& code) { return code.substr(code.find("module_data = {")); };
    EXPECT_EQ(id(plain).substr(0, 34), id(mutated).substr(0, 34));
}

TEST_F(Ptx2Cpp, RefusesMutantsThatThereAreNot) {
    const std::string out = " -o " + (dir_ / "out.cpp").string();
    Outcome o = run("bar.sync 0;", "--mutate 1" + out);
    EXPECT_NE(0, o.status);
    EXPECT_NE(std::string::npos, o.text.find("mutants are numbered from 0 to 0")) << o.text;
    o = run("bar.sync 0;", "--mutate 0,x" + out);
    EXPECT_NE(0, o.status);
    EXPECT_NE(std::string::npos, o.text.find("--mutate 0,x: expected numbers")) << o.text;
    EXPECT_NE(0, run("bar.sync 0;", "--list-mutants" + out).status);
}

}  // namespace
