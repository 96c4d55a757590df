# Import of tokenizers. It links the runtime's text library, to open what it has written as the runtime will.
distc_library(distc_tokenizer_import
  SOURCES
    TokenizerImportCommon.cpp
    TokenizerImportGguf.cpp
    TokenizerImportPatterns.cpp
  LINK distc_readers distc_schema distc_text nlohmann_json::nlohmann_json)
