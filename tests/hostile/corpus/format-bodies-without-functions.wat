;; trick: code, and no functions
;; end: refused 
(module binary "\00\61\73\6d\01\00\00\00\0a\04\01\02\00\0b")
