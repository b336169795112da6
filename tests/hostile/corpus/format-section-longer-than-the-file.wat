;; trick: a section that says it has 4 GiB
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\01\ff\ff\ff\ff\0f")
