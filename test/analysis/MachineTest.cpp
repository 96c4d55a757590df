#include "compiler/Analysis/Machine.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <random>

namespace distc {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json preset(const std::string &name) {
  return Json::parse(std::ifstream(std::string(DISTC_SOURCE_DIR "/models/machines/") + name + ".json"));
}

std::string failure(const Json &json) {
  const Result<Machine> machine = Machine::parse(json.dump(), "m.json");
  return machine.ok() ? "no error" : machine.status().message();
}

TEST(Machine, EveryPresetIsFoundByItsName) {
  int count = 0;
  for (const auto &entry : std::filesystem::directory_iterator(DISTC_SOURCE_DIR "/models/machines")) {
    const Result<Machine> machine = Machine::open(entry.path().stem().string());
    ASSERT_TRUE(machine.ok()) << machine.status().message();
    EXPECT_GT(machine->memory.at(1e9), 1e9);
    EXPECT_FALSE(machine->source.empty());
    ++count;
  }
  EXPECT_GE(count, 5);
}

TEST(Machine, UnitsAndShares) {
  const Result<Machine> machine = Machine::open("h100-sxm");
  ASSERT_TRUE(machine.ok());
  EXPECT_FALSE(machine->cpu);
  EXPECT_NEAR(machine->memory.at(1e9), 3350e9 * .916, 1);
  EXPECT_NEAR(machine->matrix.at(plan::DType::BF16).at(512), 989.4e12 * .647, 1e6);
  EXPECT_NEAR(machine->instruction, 1e-6, 1e-12);
  EXPECT_NEAR(machine->links[0].bandwidth, 360e9, 1);
  EXPECT_EQ(machine->links[0].devices, 8u);
  EXPECT_TRUE(machine->fused.contains(plan::Op::Glu));
}

// Each key that a file has, at every depth, may be neither missing nor of another kind.
void everyKey(const Json &root, const Json::json_pointer &place, int &tried) {
  const Json &value = root[place];
  if (!place.empty()) {
    for (const Json &wrong : {Json(true), Json(), Json("NaN"), Json::array(), Json(-1)}) {
      Json changed = root;
      changed[place] = wrong;
      if (place.back() == "name" || place.back() == "source" || place.back() == "kind")
        if (wrong.is_string() && place.back() != "kind")
          continue; // any text will do
      if (place.back() == "fused_ops" && wrong.is_array())
        continue;
      EXPECT_THAT(failure(changed), HasSubstr("m.json: ")) << place << " as " << wrong;
      ++tried;
    }
    if (root[place.parent_pointer()].is_object()) {
      Json changed = root;
      changed[place.parent_pointer()].erase(place.back());
      if (place.parent_pointer().to_string() == "/matrix")
        return;
      EXPECT_THAT(failure(changed), HasSubstr("is missing, expected")) << place;
    }
  }
  if (value.is_object())
    for (const auto &[key, item] : value.items())
      everyKey(root, place / key, tried);
  if (value.is_array() && !value.empty() && value[0].is_object())
    everyKey(root, place / 0, tried);
}

TEST(Machine, EveryKeyIsNeededAndChecked) {
  int tried = 0;
  for (const char *name : {"h100-sxm", "xeon-2core"})
    everyKey(preset(name), Json::json_pointer(), tried);
  EXPECT_GT(tried, 250);
}

TEST(Machine, ErrorsNameFileKeyRangeAndValue) {
  Json json = preset("h100-sxm");
  json["memory_gb_per_s"] = 0;
  EXPECT_EQ(failure(json), "m.json: memory_gb_per_s is 0, expected a number from 0.001 to 1e+06");
  json["memory_gb_per_s"] = 1e12;
  EXPECT_THAT(failure(json), HasSubstr("memory_gb_per_s is 1000000000000.0, expected a number from 0.001 to 1e+06"));
  json = preset("h100-sxm");
  json.erase("step_us");
  EXPECT_EQ(failure(json), "m.json: step_us is missing, expected a number from 0 to 1e+06");
  json = preset("h100-sxm");
  json["links"][1]["share"] = 1.5;
  EXPECT_EQ(failure(json), "m.json: links[1].share is 1.5, expected a number from 0.01 to 1");
  json["links"][1]["share"] = "fast";
  EXPECT_EQ(failure(json), "m.json: links[1].share is \"fast\", expected a number from 0.01 to 1");
  json = preset("h100-sxm");
  json["matrix"]["BF16"]["reached"][2]["tokens"] = 8;
  EXPECT_EQ(failure(json), "m.json: matrix.BF16.reached[2].tokens: is 8, expected more than the 8 before it");
  json = preset("h100-sxm");
  json["matrix"]["FP8"] = json["matrix"]["BF16"];
  EXPECT_EQ(failure(json), "m.json: matrix.FP8: is not a type of weights, expected F32, F16 or BF16");
  json = preset("h100-sxm");
  json["attention"]["colour"] = "red";
  EXPECT_EQ(failure(json), "m.json: key 'attention.colour' is not known, expected memory_share, reached");
  json = preset("h100-sxm");
  json["fork_us"] = 1; // of a CPU
  EXPECT_THAT(failure(json), HasSubstr("m.json: key 'fork_us' is not known"));
  json = preset("h100-sxm");
  json["links"][1]["devices"] = 12;
  EXPECT_EQ(failure(json),
            "m.json: links[1].devices: is 12, expected a larger multiple of the 8 of the link before it");
  json = preset("h100-sxm");
  json["fused_ops"][0] = "Softmax";
  EXPECT_THAT(failure(json), HasSubstr("m.json: fused_ops: 'Softmax' is not an instruction of a plan"));
}

TEST(Machine, TextThatIsNoMachine) {
  for (const char *text :
       {"", "[]", "3", "{", "{\"name\": NaN}", "{\"name\":\"a\",\"name\":\"b\"}", "{\"cores\":1e999}"})
    EXPECT_THAT(Machine::parse(text, "m.json").status().message(), HasSubstr("m.json: ")) << text;
  EXPECT_THAT(Machine::open("h100").status().message(),
              HasSubstr("--machine 'h100' is neither a machine file nor a known machine (a100-80gb-sxm, "));
}

// A damaged file is refused or read, and never ends the process.
TEST(Machine, DamagedFiles) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  const std::string whole = preset("h100-sxm").dump();
  for (int i = 0; i < 2000; ++i) {
    std::string text = whole;
    for (int change = 0; change < 3; ++change)
      text[random() % text.size()] = static_cast<char>(random());
    const Result<Machine> machine = Machine::parse(text, "m.json");
    EXPECT_TRUE(machine.ok() || machine.status().message().starts_with("m.json: "));
  }
}

} // namespace
} // namespace distc
