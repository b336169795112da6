;; trick: a header and nothing else
;; end: refused handler
(module binary "\00\61\73\6d\01\00\00\00")
