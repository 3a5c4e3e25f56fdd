#pragma once
// The options of ito train as a command line library sees them, made from the fields of its configuration.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diffusion/training/train_config.h"

namespace ito::fuzz {

class TrainOptions {
  public:
    using Json = nlohmann::ordered_json;

    /// Adds an option for each field, of the field's kind.
    explicit TrainOptions(CLI::App& app) : json_(Json::parse(diffusion::TrainConfig().to_json())) {
        for (const auto& [field, value] : json_.items()) {
            std::string name = "--" + field;
            std::replace(name.begin(), name.end(), '_', '-');
            if (field == "seed")
                app.add_option(name, unsigned_[field]);
            else if (value.is_boolean())
                app.add_flag(name, flags_[field]);
            else if (value.is_array())
                app.add_option(name, lists_[field])->delimiter(',');
            else if (value.is_string())
                app.add_option(name, texts_[field]);
            else if (value.is_number_float() || field == "minutes" || field == "weight_decay")
                app.add_option(name, numbers_[field]);
            else
                app.add_option(name, integers_[field]);
        }
    }

    /// The configuration with what was given, as its JSON.
    std::string to_json(const CLI::App& app) const {
        Json json = json_;
        const auto put = [&](const auto& values) {
            for (const auto& [field, value] : values) {
                std::string name = "--" + field;
                std::replace(name.begin(), name.end(), '_', '-');
                if (app.count(name) > 0) json[field] = value;
            }
        };
        put(unsigned_), put(flags_), put(lists_), put(texts_), put(numbers_), put(integers_);
        return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    }

  private:
    Json json_;
    std::map<std::string, std::uint64_t> unsigned_;
    std::map<std::string, bool> flags_;
    std::map<std::string, std::vector<std::int64_t>> lists_;
    std::map<std::string, std::string> texts_;
    std::map<std::string, double> numbers_;
    std::map<std::string, std::int64_t> integers_;
};

}  // namespace ito::fuzz
