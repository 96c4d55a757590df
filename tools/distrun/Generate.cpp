#include "distc/Engine.h"
#include "runtime/base/File.h"
#include "runtime/text/ChatTemplate.h"
#include "runtime/text/Tokenizer.h"
#include "tools/distrun/Commands.h"

#include <cstdio>

namespace distc {

namespace {

class StreamDecoder : public TextDecoder {
public:
  explicit StreamDecoder(const Tokenizer &tokenizer) : stream_(tokenizer) {}
  Result<std::string> push(int32_t id) override { return stream_.push(id); }
  std::string finish() override { return stream_.finish(); }

private:
  Tokenizer::Stream stream_;
};

Result<std::vector<std::string>> readPrompts(const Options &options) {
  if (options.promptsFile.empty())
    return options.prompts;
  DISTC_ASSIGN(const std::string content, readFile(options.promptsFile));
  std::vector<std::string> prompts;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    std::string line = content.substr(begin, end - begin);
    if (line.ends_with('\r'))
      line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos)
      prompts.push_back(std::move(line));
    begin = end + 1;
  }
  if (prompts.empty())
    return invalidArgument(options.promptsFile + ": no prompts, expected one per line");
  return prompts;
}

Result<std::vector<int32_t>> encodeChat(const Tokenizer &tokenizer, const std::string &prompt, const Options &options) {
  std::vector<ChatMessage> messages;
  if (options.hasSystem)
    messages.push_back({"system", options.system});
  messages.push_back({"user", prompt});
  const ChatOptions chat{std::string(tokenizer.piece(tokenizer.bos())), std::string(tokenizer.piece(tokenizer.eos()))};
  DISTC_ASSIGN(const std::string rendered, renderChat(tokenizer.chatTemplate(), messages, chat));
  DISTC_ASSIGN(std::vector<int32_t> ids, tokenizer.encode(rendered, false, true));
  // Most templates write bos themselves. Where one does not, the tokenizer's own habit decides.
  DISTC_ASSIGN(const std::vector<int32_t> bare, tokenizer.encode("", true, false));
  const int32_t bos = tokenizer.bos();
  if (bos >= 0 && !bare.empty() && bare.front() == bos && (ids.empty() || ids.front() != bos))
    ids.insert(ids.begin(), bos);
  return ids;
}

Result<std::vector<Request>> makeRequests(const Tokenizer *tokenizer, const Options &options) {
  Request request;
  request.maxNewTokens = options.maxNewTokens;
  request.sampling = options.sampling;
  request.ignoreEos = options.ignoreEos;
  request.stops = options.stops;
  if (options.hasTokens) {
    request.tokens = options.tokens;
    return std::vector<Request>{request};
  }
  DISTC_ASSIGN(const std::vector<std::string> prompts, readPrompts(options));
  if (options.chat && tokenizer->chatTemplate().empty())
    return failedPrecondition("the model has no chat template; leave out --chat");
  std::vector<Request> requests;
  for (const std::string &prompt : prompts) {
    Result<std::vector<int32_t>> tokens =
        options.chat ? encodeChat(*tokenizer, prompt, options) : tokenizer->encode(prompt, true, false);
    if (!tokens.ok())
      return tokens.status().context("prompt " + std::to_string(requests.size() + 1));
    request.tokens = tokens.take();
    requests.push_back(request);
  }
  return requests;
}

// Prints the answers in the order of the requests: the first unfinished one streams, later ones wait for their turn.
class Printer {
public:
  Printer(size_t requests, bool ids) : answers_(requests), ids_(ids) {}

  void add(const TokenEvent &event) {
    Answer &answer = answers_[event.request];
    answer.text += ids_ ? (answer.any ? " " : "") + std::to_string(event.id) : event.text;
    answer.any = true;
    answer.done = event.finish != Finish::None;
    while (status_.ok() && current_ < answers_.size()) {
      Answer &front = answers_[current_];
      std::string out = std::exchange(front.text, {});
      if (!out.empty())
        endsLine_ = out.back() == '\n';
      const bool last = current_ + 1 == answers_.size();
      if (front.done) {
        if (ids_)
          out += '\n';
        else if (answers_.size() > 1)
          out += std::string(endsLine_ ? "" : "\n") + (last ? "" : "---\n");
        else if (!endsLine_)
          out += '\n';
        endsLine_ = true;
      }
      if (!out.empty())
        status_ = print(out);
      if (!front.done)
        return;
      ++current_;
    }
  }
  const Status &status() const { return status_; }

private:
  struct Answer {
    std::string text;
    bool any = false, done = false;
  };
  std::vector<Answer> answers_;
  size_t current_ = 0;
  bool ids_, endsLine_ = false;
  Status status_;
};

void report(const EngineStats &s) {
  auto rate = [](double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; };
  std::fprintf(stderr, "prefill %llu tokens, %.1f tok/s; decode %llu tokens, %.2f tok/s, %.2f GB/s\n",
               static_cast<unsigned long long>(s.prefillTokens), rate(double(s.prefillTokens), s.prefillSeconds),
               static_cast<unsigned long long>(s.decodeTokens), rate(double(s.decodeTokens), s.decodeSeconds),
               rate(s.decodeBytes, s.decodeSeconds) / 1e9);
}

// Ends generation when nobody reads any more.
class PrintingModel : public RunnerModel {
public:
  PrintingModel(Runner &runner, const Printer &printer) : RunnerModel(runner), printer_(printer) {}
  Result<std::vector<StepResult>> step(std::span<const Batch> batches) override {
    DISTC_TRY(printer_.status());
    return RunnerModel::step(batches);
  }

private:
  const Printer &printer_;
};

} // namespace

Status runGenerate(const Options &options) {
  DISTC_ASSIGN(const std::unique_ptr<Runner> runner, openRunner(options));
  std::unique_ptr<Tokenizer> tokenizer;
  if (const std::string &path = runner->info().tokenizerPath; !path.empty()) {
    DISTC_ASSIGN(tokenizer, Tokenizer::open(path));
  } else if (!options.hasTokens || !options.printIds || !options.stops.empty()) {
    return failedPrecondition(options.directory + ": the plan set has no tokenizer, so there is no text; use --tokens "
                                                  "with --print-ids and no --stop");
  }
  DISTC_ASSIGN(const std::vector<Request> requests, makeRequests(tokenizer.get(), options));
  EngineHooks hooks;
  if (tokenizer) {
    hooks.isEndOfGeneration = [&](int32_t id) { return tokenizer->isEndOfGeneration(id); };
    if (!options.printIds || !options.stops.empty())
      hooks.makeDecoder = [&] { return std::make_unique<StreamDecoder>(*tokenizer); };
  }
  Printer printer(requests.size(), options.printIds);
  PrintingModel model(*runner, printer);
  Engine engine(model, hooks);
  bool full = false;
  DISTC_TRY(engine.generate(requests, [&](const TokenEvent &event) {
    printer.add(event);
    full |= event.finish == Finish::ContextLimit;
  }));
  DISTC_TRY(printer.status());
  if (full)
    std::fprintf(stderr,
                 "distrun: an answer ends at the %u tokens of one sequence that the plan holds; compile with a larger "
                 "--max-seq for more\n",
                 runner->info().maxSequence);
  report(engine.stats());
  return {};
}

} // namespace distc
