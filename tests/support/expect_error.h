#pragma once
// What every test of an error checks: that it is thrown, is one line, and says what it must.

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "core/error.h"

namespace ito::testing {

template <class Action>
void expect_error(Action&& action, std::initializer_list<const char*> parts) {
    try {
        action();
        ADD_FAILURE() << "no error, expected one with \"" << *parts.begin() << "\"";
    } catch (const Error& error) {
        const std::string text = error.what();
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        for (const char* part : parts)
            EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
    }
}

}  // namespace ito::testing
