// Answers requests, one JSON object a line on stdin, with one JSON object a line on stdout:
//   {"text": …, "special": bool, "parse": bool}                → {"ids": […], "decoded": …}
//   {"decode": […], "special": bool}                           → {"text": …}
// Usage: text_driver CHECKPOINT    (a .gguf file or a folder with tokenizer.json)
#include "compiler/Import/Json.h"
#include "compiler/Import/TokenizerImport.h"
#include "runtime/text/Tokenizer.h"

#include <filesystem>
#include <iostream>

using namespace distc;
using import::Json;

namespace {

Result<import::TokenizerBytes> importFrom(const std::string &path) {
  if (std::filesystem::is_directory(path))
    return import::importHfTokenizer(path);
  DISTC_ASSIGN(import::GgufFile file, import::readGguf(path));
  return import::importGgufTokenizer(file.metadata, path);
}

Result<Json> answer(const Json &request, const Tokenizer &tokenizer) {
  if (request.contains("decode")) {
    DISTC_ASSIGN(std::string text,
                 tokenizer.decode(request["decode"].get<std::vector<int32_t>>(), request["special"].get<bool>()));
    return Json{{"text", text}};
  }
  DISTC_ASSIGN(std::vector<int32_t> ids,
               tokenizer.encode(request["text"].get<std::string>(), request["special"].get<bool>(),
                                request["parse"].get<bool>()));
  DISTC_ASSIGN(std::string decoded, tokenizer.decode(ids, false));
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
  Result<import::TokenizerBytes> bytes = importFrom(argv[1]);
  if (!bytes.ok())
    return fail(bytes.status());
  if (!*bytes)
    return fail(invalidArgument(std::string(argv[1]) + ": holds no tokenizer"));
  auto tokenizer = Tokenizer::fromBytes(std::string((*bytes)->begin(), (*bytes)->end()), argv[1]);
  if (!tokenizer.ok())
    return fail(tokenizer.status());
  for (std::string line; std::getline(std::cin, line);) {
    Result<Json> reply = answer(Json::parse(line), **tokenizer);
    Json out = reply.ok() ? *reply : Json{{"error", reply.status().message()}};
    std::cout << out.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
