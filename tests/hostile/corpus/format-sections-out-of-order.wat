;; trick: code before types
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\0a\01\00\01\01\00")
