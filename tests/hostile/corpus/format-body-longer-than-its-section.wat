;; trick: a body that says it has 4 GiB
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\01\04\01\60\00\00\03\02\01\00\0a\07\01\ff\ff\ff\ff\0f\0b")
