# cmake --install: the tools and what a user reads. The runtime's tool is a component of its own, for machines that
# only run plans: cmake --install build --component runtime --prefix DIR
if(TARGET distrun)
  install(TARGETS distrun RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT runtime)
endif()
foreach(tool distc distc-opt distc-translate)
  if(TARGET ${tool})
    # Who built only some of them installs only these.
    install(TARGETS ${tool} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT compiler OPTIONAL)
  endif()
endforeach()
install(FILES LICENSE README.md docs/plan-format.md docs/cli.md DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)
