;; trick: an export whose name is not UTF-8
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\01\04\01\60\00\00\03\02\01\00\07\06\01\02\ff\fe\00\00\0a\04\01\02\00\0b")
