;; trick: a body without its end
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\01\04\01\60\00\00\03\02\01\00\07\0a\01\06\6f\6e\5f\68\69\74\00\00\0a\04\01\02\00\01")
