;; trick: version 2
;; end: refused version
(module binary "\00\61\73\6d\02\00\00\00")
