#include "train/train_checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/cannot_read.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "io/hf_directory.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "cepe-training-checkpoint";
constexpr int64_t kVersion = 1;

// The step of "step-000123"; -1 for another name.
int64_t step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name.rfind("step-", 0) != 0 || name.size() < 6 || name.size() > 20) return -1;
  const std::string digits = name.substr(5);
  return digits.find_first_not_of("0123456789") == std::string::npos ? std::stoll(digits) : -1;
}

void sync_directory(const fs::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  require(synced, "{}: cannot sync the directory to disk: {}", directory.string(), std::strerror(error));
}

// Where a checkpoint waits that another of the same step replaces.
fs::path aside(const fs::path& checkpoint) {
  return checkpoint.parent_path() / fmt::format(".{}.old", checkpoint.filename().string());
}

// Gives a complete checkpoint its name. An earlier one of that step is whole until this one stands in its place.
void put_in_place(const fs::path& complete, const fs::path& target) {
  const bool replaces = fs::exists(target);
  if (replaces) {
    fs::remove_all(aside(target));
    fs::rename(target, aside(target));
  }
  try {
    fs::rename(complete, target);
  } catch (const fs::filesystem_error&) {
    if (replaces) fs::rename(aside(target), target);
    throw;
  }
  std::error_code ignored;
  fs::remove_all(aside(target), ignored);
}

// Names of the optimizer's tensors.
std::string average_name(const std::string& parameter) { return "exp_avg." + parameter; }
std::string square_average_name(const std::string& parameter) { return "exp_avg_sq." + parameter; }

TensorView view_of(const std::string& name, const at::Tensor& cpu) {
  return {name,
          DType::f32,
          cpu.sizes().vec(),
          {static_cast<const std::byte*>(cpu.data_ptr()), static_cast<size_t>(cpu.nbytes())}};
}

void save_optimizer(const fs::path& path, const TrainingState& training) {
  const std::vector<Parameter>& list = training.parameters;
  std::vector<at::Tensor> kept;
  std::vector<TensorView> views;
  auto add = [&](const std::string& name, const at::Tensor& tensor) {
    kept.push_back(tensor.detach().to(at::kCPU).contiguous());
    views.push_back(view_of(name, kept.back()));
  };
  for (size_t i = 0; i < list.size(); ++i) {
    add(average_name(list[i].name), training.optimizer.averages[i]);
    add(square_average_name(list[i].name), training.optimizer.square_averages[i]);
  }
  add("updates", training.optimizer.updates);
  write_safetensors(path, views, {{"format", "pt"}});
}

void copy_from(const TensorSource& source, const std::string& name, const at::Tensor& target) {
  const std::string where = source.path().string();
  const TensorView* view = source.find(name);
  require(view != nullptr, "{}: tensor {} is missing", where, name);
  require(view->dtype == DType::f32 && at::IntArrayRef(view->shape) == target.sizes(),
          "{}: tensor {} is {} of shape ({}), expected F32 of shape ({})", where, name, dtype_name(view->dtype),
          fmt::join(view->shape, ", "), fmt::join(target.sizes(), ", "));
  at::Tensor cpu = at::empty(view->shape, at::kFloat);
  std::memcpy(cpu.data_ptr(), view->bytes.data(), view->bytes.size());
  const at::NoGradGuard no_grad;
  target.copy_(cpu);
}

}  // namespace

std::vector<fs::path> checkpoints_of(const fs::path& run) {
  std::vector<fs::path> found;
  if (!fs::is_directory(run)) return found;
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.is_directory() && step_of(entry.path()) >= 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return found;
}

fs::path save_checkpoint(const fs::path& run, const TrainingState& training, const CheckpointOptions& options) {
  const std::string name = fmt::format("step-{:06}", options.state.at("step").get<int64_t>());
  const fs::path temporary = run / ("." + name + ".tmp"), target = run / name;
  std::error_code ignored;
  try {
    fs::remove_all(temporary);
    options.save_model(temporary);
    save_optimizer(temporary / "optimizer.safetensors", training);
    nlohmann::json state = options.state;
    state["format"] = kFormat;
    state["version"] = kVersion;
    write_file(temporary / "state.json", json_text(state, 2) + "\n");
    sync_directory(temporary);
    put_in_place(temporary, target);
    sync_directory(run);
  } catch (const fs::filesystem_error& error) {
    fs::remove_all(temporary, ignored);
    fail("{}: cannot write the checkpoint: {}", target.string(), error.code().message());
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
  write_file(run / "latest", name + "\n");
  const std::vector<fs::path> found = checkpoints_of(run);
  for (size_t i = static_cast<size_t>(options.keep); i < found.size(); ++i) fs::remove_all(found[i], ignored);
  return target;
}

nlohmann::json read_checkpoint_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "state.json";
  nlohmann::json state = read_json(path);
  require(state.is_object() && state.value("format", nlohmann::json()) == kFormat,
          "{}: not the state of a training checkpoint", path.string());
  if (state.value("version", nlohmann::json()) != kVersion) {
    throw OtherVersion(fmt::format("{}: a checkpoint of version {}, expected {}", path.string(),
                                   state.value("version", nlohmann::json()).dump(), kVersion));
  }
  const auto check = [&](const char* key, bool right, const char* expected) {
    const nlohmann::json value = state.value(key, nlohmann::json());
    require(right, "{}: \"{}\" is {}, expected {}", path.string(), key,
            value.is_structured() ? value.type_name() : value.dump(), expected);
  };
  const auto absent_or = [&](const char* key, auto right) { return !state.contains(key) || right(state[key]); };
  const int64_t named = step_of(checkpoint);
  check("step", state.contains("step") && state["step"].is_number_unsigned() && state["step"] == named,
        fmt::format("{}, as the directory is named", named).c_str());
  check("identity", state.contains("identity") && state["identity"].is_object(), "an object");
  check("tokens", absent_or("tokens", [](const auto& value) { return value.is_number_unsigned(); }), "a number");
  check("seconds", absent_or("seconds", [](const auto& value) { return value.is_number(); }), "a number");
  const auto hashed = [](const nlohmann::json& entry) {
    return entry.is_object() && entry.contains("sha256") && entry["sha256"].is_string();
  };
  check("shards",
        state.contains("shards") && state["shards"].is_array() &&
            std::all_of(state["shards"].begin(), state["shards"].end(), hashed),
        "a list of objects with \"sha256\"");
  check("parts", absent_or("parts", [&](const auto& value) { return value.is_null() || hashed(value); }),
        "null or an object with \"sha256\"");
  return state;
}

void load_checkpoint(const fs::path& checkpoint, const TrainingState& training) {
  const SafetensorsFile weights(checkpoint / "model.safetensors"), averages(checkpoint / "optimizer.safetensors");
  const std::vector<Parameter>& list = training.parameters;
  for (size_t i = 0; i < list.size(); ++i) {
    copy_from(weights, list[i].name, *list[i].value);
    copy_from(averages, average_name(list[i].name), training.optimizer.averages[i]);
    copy_from(averages, square_average_name(list[i].name), training.optimizer.square_averages[i]);
  }
  copy_from(averages, "updates", training.optimizer.updates);
}

std::optional<LoadedCheckpoint> load_newest_checkpoint(const fs::path& run, const TrainingState& training,
                                                       const MayResume& may_resume) {
  std::vector<std::pair<fs::path, std::string>> damaged;
  for (const fs::path& checkpoint : checkpoints_of(run)) {
    LoadedCheckpoint loaded;
    bool whole = false;  // its state.json
    try {
      loaded.state = read_checkpoint_state(checkpoint);
      whole = true;
      may_resume(checkpoint, loaded.state);
      whole = false;  // its tensors
      load_checkpoint(checkpoint, training);
    } catch (const OtherVersion&) {
      throw;
    } catch (const CannotRead&) {
      throw;  // it may be whole
    } catch (const Error& error) {
      if (whole) throw;
      damaged.emplace_back(checkpoint, error.what());
      continue;
    }
    // First, so that it never names a directory that is gone.
    if (!damaged.empty()) write_file(run / "latest", checkpoint.filename().string() + "\n");
    for (const auto& [path, what] : damaged) {
      const fs::path aside = path.string() + ".damaged";
      std::error_code error;
      fs::remove_all(aside, error);
      fs::rename(path, aside, error);
      require(!error, "{}: the checkpoint is damaged and cannot be renamed: {}", path.string(), error.message());
      loaded.notes.push_back(fmt::format("note: the checkpoint is damaged, now {}: {}", aside.string(), what));
    }
    return loaded;
  }
  require(damaged.empty(), "{}", damaged.empty() ? "" : damaged[0].second);
  return std::nullopt;
}

void remove_unfinished_checkpoints(const fs::path& run) {
  std::error_code ignored;
  if (!fs::is_directory(run)) return;
  std::vector<fs::path> unfinished, replaced;
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(".step-")) continue;
    if (name.ends_with(".tmp")) unfinished.push_back(entry.path());
    if (name.ends_with(".old")) replaced.push_back(entry.path());
  }
  for (const fs::path& path : replaced) {
    const fs::path checkpoint = run / path.stem().string().substr(1);
    if (!fs::exists(checkpoint)) fs::rename(path, checkpoint, ignored);
    fs::remove_all(path, ignored);
  }
  for (const fs::path& path : unfinished) fs::remove_all(path, ignored);
}

}  // namespace cepe
