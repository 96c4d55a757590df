// Answers requests, one JSON object a line on stdin, with one JSON object a line on stdout:
//   {"text": …, "special": bool, "parse": bool}                → {"ids": […], "decoded": …}
//   {"decode": […], "special": bool}                           → {"text": …}
//   {"template": …, "variables": {…}}                          → {"text": …}
// Usage: text_driver CHECKPOINT    (a .gguf file, a folder with tokenizer.json, or - for templates alone)
#include "JinjaJson.h"

#include "compiler/Import/TokenizerImport.h"
#include "runtime/text/ChatTemplate.h"
#include "runtime/text/Tokenizer.h"

#include <filesystem>
#include <iostream>

using namespace distc;
using Json = nlohmann::ordered_json; // a template sees the order of members

namespace {

Result<import::TokenizerBytes> importFrom(const std::string &path) {
  if (std::filesystem::is_directory(path))
    return import::importHfTokenizer(path);
  DISTC_ASSIGN(import::GgufFile file, import::readGguf(path));
  return import::importGgufTokenizer(file.metadata, path);
}

Result<Json> answer(const Json &request, const Tokenizer *tokenizer) {
  if (request.contains("template")) {
    jinja::Entries variables;
    for (const auto &[name, value] : request["variables"].items())
      variables.emplace_back(name, test::jinjaValue(value));
    DISTC_ASSIGN(std::string text, renderTemplate(request["template"].get<std::string>(), std::move(variables)));
    return Json{{"text", text}};
  }
  if (!tokenizer)
    return invalidArgument("only templates: no checkpoint was given");
  if (request.contains("decode")) {
    DISTC_ASSIGN(std::string text,
                 tokenizer->decode(request["decode"].get<std::vector<int32_t>>(), request["special"].get<bool>()));
    return Json{{"text", text}};
  }
  DISTC_ASSIGN(std::vector<int32_t> ids,
               tokenizer->encode(request["text"].get<std::string>(), request["special"].get<bool>(),
                                 request["parse"].get<bool>()));
  DISTC_ASSIGN(std::string decoded, tokenizer->decode(ids, false));
  return Json{{"ids", ids}, {"decoded", decoded}};
}

int fail(const Status &status) {
  std::cerr << status.message() << "\n";
  return 1;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2)
    return fail(invalidArgument("usage: text_driver CHECKPOINT"));
  std::unique_ptr<Tokenizer> tokenizer;
  if (std::string_view(argv[1]) != "-") {
    Result<import::TokenizerBytes> bytes = importFrom(argv[1]);
    if (!bytes.ok())
      return fail(bytes.status());
    if (!*bytes)
      return fail(invalidArgument(std::string(argv[1]) + ": holds no tokenizer"));
    auto opened = Tokenizer::fromBytes(std::string((*bytes)->begin(), (*bytes)->end()), argv[1]);
    if (!opened.ok())
      return fail(opened.status());
    tokenizer = opened.take();
  }
  for (std::string line; std::getline(std::cin, line);) {
    Result<Json> reply = answer(Json::parse(line), tokenizer.get());
    Json out = reply.ok() ? *reply : Json{{"error", reply.status().message()}};
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
