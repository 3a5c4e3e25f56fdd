// UNetConfig and its JSON form: the fields of diffusers' UNet2DModel, unet/config.json.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/io/json_depth.h"
#include "nn/config_fields.h"
#include "nn/unet.h"

namespace ito::nn {

using Json = nlohmann::ordered_json;

std::int64_t default_norm_groups(std::int64_t base_channels) {
    for (std::int64_t groups = std::min<std::int64_t>(32, base_channels / 4); groups > 1; --groups)
        if (base_channels % groups == 0) return groups;
    return 1;
}

void UNetConfig::validate() const {
    const auto levels = static_cast<std::int64_t>(block_out_channels.size());
    require(levels >= 1 && levels <= 16,
            "U-Net: {} levels; expected 1 to 16 channel multipliers (block_out_channels)", levels);
    require(attention.size() == block_out_channels.size(),
            "U-Net: attention is given for {} levels of {} (down_block_types, block_out_channels)",
            attention.size(), levels);
    require(in_channels >= 1 && out_channels >= 1,
            "U-Net: {} input and {} output channels; expected at least 1 (in_channels, out_channels)",
            in_channels, out_channels);
    require(layers_per_block >= 1 && layers_per_block <= 64,
            "U-Net: layers per block is {}; expected 1 to 64 (layers_per_block)", layers_per_block);
    require(norm_num_groups >= 1, "U-Net: norm groups is {}; expected at least 1 (norm_num_groups)",
            norm_num_groups);
    require(dropout >= 0 && dropout < 1, "U-Net: dropout is {}; expected [0, 1)", dropout);
    require(norm_eps > 0, "U-Net: norm eps is {}; expected a positive number (norm_eps)", norm_eps);
    require(downsample_padding == 0 || downsample_padding == 1,
            "U-Net: downsample padding is {}; expected 0 or 1 (downsample_padding)", downsample_padding);
    for (const auto channels : block_out_channels) {
        require(channels >= 1 && channels <= 65536, "U-Net: {} channels in a level; expected 1 to 65536",
                channels);
        require(channels % norm_num_groups == 0,
                "U-Net: {} channels cannot be cut into {} norm groups; choose a divisor of every level's "
                "channels ({}; block_out_channels, norm_num_groups)",
                channels, norm_num_groups, fmt::join(block_out_channels, ", "));
    }
    require(block_out_channels[0] >= 4, "U-Net: {} base channels; expected at least 4",
            block_out_channels[0]);
    const std::int64_t multiple = std::int64_t{1} << (levels - 1);
    require(height > 0 && width > 0 && height % multiple == 0 && width % multiple == 0,
            "U-Net: {}x{} images with {} levels; height and width must be multiples of {} (use fewer channel "
            "multipliers, or another image size; sample_size)",
            height, width, levels, multiple);
    for (std::size_t i = 0; i < block_out_channels.size(); ++i) {
        if (attention_head_dim == 0 || (!attention[i] && i + 1 < block_out_channels.size())) continue;
        require(attention_head_dim > 0 && block_out_channels[i] % attention_head_dim == 0,
                "U-Net: {} channels cannot be cut into attention heads of {} channels (attention_head_dim)",
                block_out_channels[i], attention_head_dim);
    }
}

std::string UNetConfig::to_json() const {
    Json json;
    json["_class_name"] = "UNet2DModel";
    json["_diffusers_version"] = "0.21.4";
    json["act_fn"] = "silu";
    json["add_attention"] = true;
    json["attention_head_dim"] = attention_head_dim ? Json(attention_head_dim) : Json(nullptr);
    json["block_out_channels"] = block_out_channels;
    json["center_input_sample"] = false;
    json["class_embed_type"] = nullptr;
    Json down = Json::array(), up = Json::array();
    for (const bool with : attention) down.push_back(with ? "AttnDownBlock2D" : "DownBlock2D");
    for (auto with = attention.rbegin(); with != attention.rend(); ++with)
        up.push_back(*with ? "AttnUpBlock2D" : "UpBlock2D");
    json["down_block_types"] = down;
    json["downsample_padding"] = downsample_padding;
    json["dropout"] = dropout;
    json["flip_sin_to_cos"] = flip_sin_to_cos;
    json["freq_shift"] = freq_shift;
    json["in_channels"] = in_channels;
    json["layers_per_block"] = layers_per_block;
    json["mid_block_scale_factor"] = 1;
    json["norm_eps"] = norm_eps;
    json["norm_num_groups"] = norm_num_groups;
    json["num_class_embeds"] = nullptr;
    json["out_channels"] = out_channels;
    json["resnet_time_scale_shift"] = scale_shift ? "scale_shift" : "default";
    json["sample_size"] = height == width ? Json(height) : Json({height, width});
    json["time_embedding_type"] = "positional";
    json["up_block_types"] = up;
    return json.dump(2) + "\n";
}

namespace {

/// Reads fields by name, with errors that name file and field.
class Fields {
  public:
    Fields(const std::string& text, std::string source) : source_(std::move(source)) {
        require_shallow_json(text, source_);
        json_ = Json::parse(quote_python_numbers(text), nullptr, false);
        require(!json_.is_discarded() && json_.is_object(),
                "{}: not a JSON object (cut short? download or copy it again)", source_);
    }

    bool has(const char* key) const {
        known_.add(key);
        return json_.contains(key);
    }
    const Json& at(const char* key) const { return json_.at(key); }

    template <class T>
    T get(const char* key, T otherwise) const {
        if (!has(key)) return otherwise;
        try {
            if (fits<T>(at(key))) return at(key).get<T>();
        } catch (const Json::exception&) {
        }
        fail("{}: \"{}\" is {}, which is not of the expected kind", source_, key, excerpt(at(key).dump()));
    }

    template <class T>
    void expect(const char* key, const T& only) const {
        if (!has(key) || at(key) == Json(only)) return;
        fail("{}: \"{}\" is {}; ito's U-Net does only {}", source_, key, excerpt(at(key).dump()),
             Json(only).dump());
    }

    /// A field that does not matter here.
    void unused(const char* key) const { known_.add(key); }

    std::string note() const {
        std::vector<std::string> names;
        for (const auto& [name, value] : json_.items()) names.push_back(name);
        return known_.note(names, source_);
    }

  private:
    /// False for values that the JSON library would silently convert, such as 2.5 or true to an integer.
    template <class T>
    static bool fits(const Json& value) {
        if constexpr (std::is_same_v<T, std::int64_t>) return value.is_number_integer();
        if constexpr (std::is_same_v<T, double>) return value.is_number();
        if constexpr (std::is_same_v<T, std::vector<std::int64_t>>)
            return std::all_of(value.begin(), value.end(), fits<std::int64_t>);
        return true;
    }

    Json json_;
    std::string source_;
    mutable KnownFields known_;
};

/// The fields that diffusers' EMAModel writes into the configuration of unet_ema.
constexpr const char* of_averages[] = {"decay", "inv_gamma",         "min_decay",     "optimization_step",
                                       "power", "update_after_step", "use_ema_warmup"};

std::vector<bool> attention_of(const std::vector<std::string>& types, const std::string& plain,
                               const std::string& with, const std::string& source, const char* field) {
    std::vector<bool> attention;
    for (const auto& type : types) {
        require(type == plain || type == with,
                "{}: block type \"{}\" in {} is unknown; ito's U-Net has {} and {}", source, excerpt(type),
                field, plain, with);
        attention.push_back(type == with);
    }
    return attention;
}

}  // namespace

UNetConfig UNetConfig::from_json(const std::string& text, const std::string& source,
                                 std::vector<std::string>* notes) {
    const Fields fields(text, source);
    fields.expect("_class_name", "UNet2DModel");
    fields.expect("_use_default_values", Json::array());  // names fields that diffusers then skips
    fields.expect("quantization_config", nullptr);
    if (fields.get<std::string>("act_fn", "silu") != "swish")
        fields.expect("act_fn", "silu");  // two names of one function
    fields.expect("add_attention", true);
    fields.expect("center_input_sample", false);
    fields.expect("class_embed_type", nullptr);
    fields.expect("num_class_embeds", nullptr);
    fields.expect("mid_block_scale_factor", 1);
    fields.expect("time_embedding_type", "positional");
    fields.expect("downsample_type", "conv");
    fields.expect("upsample_type", "conv");
    fields.expect("mid_block_type", "UNetMidBlock2D");
    fields.unused("num_train_timesteps");  // the rows of a learned time embedding
    for (const char* key : of_averages) fields.unused(key);

    UNetConfig config;  // a missing field has UNet2DModel's default
    config.in_channels = fields.get<std::int64_t>("in_channels", 3);
    config.out_channels = fields.get<std::int64_t>("out_channels", 3);
    config.block_out_channels =
        fields.get<std::vector<std::int64_t>>("block_out_channels", {224, 448, 672, 896});
    if (!config.block_out_channels.empty() && fields.has("time_embedding_dim") &&
        fields.at("time_embedding_dim") != Json(4 * config.block_out_channels[0]))
        fields.expect("time_embedding_dim", nullptr);  // which means that number
    config.layers_per_block = fields.get<std::int64_t>("layers_per_block", 2);
    config.norm_num_groups = fields.get<std::int64_t>("norm_num_groups", 32);
    config.norm_eps = fields.get<double>("norm_eps", 1e-5);
    config.dropout = fields.get<double>("dropout", 0);
    config.downsample_padding = fields.get<std::int64_t>("downsample_padding", 1);
    config.flip_sin_to_cos = fields.get<bool>("flip_sin_to_cos", true);
    config.freq_shift = fields.get<double>("freq_shift", 0);
    config.attention_head_dim = 8;
    if (fields.has("attention_head_dim")) {
        config.attention_head_dim =
            fields.at("attention_head_dim").is_null() ? 0 : fields.get<std::int64_t>("attention_head_dim", 8);
    }
    const auto mode = fields.get<std::string>("resnet_time_scale_shift", "default");
    require(mode == "default" || mode == "scale_shift",
            "{}: \"resnet_time_scale_shift\" is \"{}\"; ito's U-Net does default and scale_shift", source,
            excerpt(mode));
    config.scale_shift = mode == "scale_shift";
    // The groups of the middle block's attention. null and norm_num_groups mean the same, except with scale_shift.
    if (config.scale_shift || !fields.has("attn_norm_num_groups") ||
        fields.at("attn_norm_num_groups") != Json(config.norm_num_groups))
        fields.expect("attn_norm_num_groups", nullptr);
    if (fields.has("sample_size") && fields.at("sample_size").is_array()) {
        const auto size = fields.get<std::vector<std::int64_t>>("sample_size", {});
        require(size.size() == 2, "{}: \"sample_size\" has {} numbers; expected one or two", source,
                size.size());
        config.height = size[0];
        config.width = size[1];
    } else {
        require(fields.has("sample_size") && !fields.at("sample_size").is_null(),
                "{}: \"sample_size\" is missing", source);
        config.height = config.width = fields.get<std::int64_t>("sample_size", 0);
    }
    const auto down = fields.get<std::vector<std::string>>(
        "down_block_types", {"DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"});
    const auto up = fields.get<std::vector<std::string>>(
        "up_block_types", {"AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"});
    config.attention = attention_of(down, "DownBlock2D", "AttnDownBlock2D", source, "down_block_types");
    auto mirrored = attention_of(up, "UpBlock2D", "AttnUpBlock2D", source, "up_block_types");
    std::reverse(mirrored.begin(), mirrored.end());
    require(
        mirrored == config.attention,
        "{}: \"up_block_types\" is not the mirror image of \"down_block_types\"; ito's U-Net is symmetric",
        source);
    try {
        config.validate();
    } catch (const Error& error) {
        fail("{}: {}", source, error.what());
    }
    if (const std::string note = fields.note(); notes && !note.empty()) notes->push_back(note);
    return config;
}

}  // namespace ito::nn
