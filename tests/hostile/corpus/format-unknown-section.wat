;; trick: a section of an unknown kind
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\7f\01\00")
