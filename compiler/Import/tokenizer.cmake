# Import of tokenizers. It links the runtime's text library, to open what it has written as the runtime will.
distc_library(distc_tokenizer_import
  SOURCES
    TokenizerImportCommon.cpp
    TokenizerImportGguf.cpp
    TokenizerImportHf.cpp
    TokenizerImportHfConfig.cpp
    TokenizerImportHfText.cpp
    TokenizerImportPatterns.cpp
    TokenizerImportSentencePiece.cpp
  LINK distc_readers distc_schema distc_text nlohmann_json::nlohmann_json)
