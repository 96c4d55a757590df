find_package(LibLZMA REQUIRED)
distc_gtest(tokenizer_import_test
  SOURCES TokenizerFamiliesTest.cpp TokenizerGgufTest.cpp TokenizerHfTest.cpp TokenizerTestData.cpp
  LINK distc_tokenizer_import distc_text LibLZMA::LibLZMA)
