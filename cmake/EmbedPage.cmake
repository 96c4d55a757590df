# Writes OUTPUT, a C++ header with the parts of the page in FOLDER as string literals. Run as a script:
# cmake -DFOLDER=… -DOUTPUT=… -P EmbedPage.cmake
set(text "#pragma once\n#include <string_view>\nnamespace distc::report {\n")
foreach(part Html Css Js)
  string(TOLOWER "${part}" extension)
  file(READ "${FOLDER}/page.${extension}" content)
  string(APPEND text "inline constexpr std::string_view kPage${part} = R\"page(${content})page\";\n")
endforeach()
string(APPEND text "} // namespace distc::report\n")
file(WRITE "${OUTPUT}" "${text}")
