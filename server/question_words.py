"""The words that show what kind of answer a question asks for, in classes of like meaning.

What a question is about should not matter to the router, only how it asks. So "benefits",
"好处" and "メリット" are one and the same word to it, and what holds for one holds for all.
Chinese is written in simplified characters here: ``SIMPLIFIED`` makes them of traditional ones.
"""

from collections.abc import Mapping

# Words, or phrases of up to four.
ENGLISH: Mapping[str, str] = {
    "benefit": """benefit, benefits, advantage, advantages, upside, upsides, merits, pros,
        strengths, strong points, pros and cons, advantages and disadvantages,
        upsides and downsides, strengths and weaknesses, pluses and minuses, perks,
        selling points, gain, good about""",
    "drawback": """drawback, drawbacks, disadvantage, disadvantages, downside, downsides, cons,
        weaknesses, risk, risks, danger, dangers, hazards, limitation, limitations, harms,
        threats, pitfalls, concerns, objections, criticisms, shortcomings, side effects""",
    "way": """ways, methods, strategies, techniques, approaches, measures, solutions, options,
        alternatives, tactics, best way, good way, best practices, steps can, remedies, tools,
        resources, actions, opportunities""",
    "advice": """tip, tips, advice, suggestion, suggestions, idea, ideas, recommendation,
        recommendations, pointers, hints, tricks, hacks, guidelines, dos and don'ts, lessons,
        checklist, rules, precautions, advise, counsel""",
    "cause": """reason, reasons, cause, causes, factor, factors, drivers, determinants,
        contributes to, motives, motivations, led to, explanations""",
    "effect": """effect, effects, impact, impacts, consequence, consequences, implication,
        implications, influence, influences, affect, affects, affected, importance, significance,
        role, roles, change, changes, changed, reshape, outcomes, repercussions, transform,
        transformed, benefits of""",
    "difference": """difference, differences, similarities, compare, contrast,
        compare and contrast, differ, differs, different from, versus, vs, distinguish,
        comparison, distinction, sets apart""",
    "kind": """types, kinds, forms, categories, examples, example, feature, features,
        characteristics, aspects, elements, components, principles, functions, applications,
        uses, use cases, styles, theories, practices, trends, properties, varieties, genres,
        concepts, basics, perspectives, viewpoints, dimensions, areas, parts, criteria""",
    "trait": """challenges, problems, issues, obstacles, barriers, difficulties, signs, symptoms,
        clues, indicators, skills, qualities, traits, habits, mistakes, misconceptions, myths,
        facts, arguments, evidence, questions, responsibilities, duties, requirements,
        considerations, achievements, contributions, goals, values, topics, things, points,
        stereotypes, activities, exercises, foods, hobbies, places, attractions, inventions,
        gifts""",
    "consider": """consider, keep in mind, look for, watch out, look out, be aware, aware of,
        need to know, should know, think about, take into account, pay attention, bear in mind""",
    "recommend": """recommend, suggest, brainstorm, come up with, share, propose""",
    "improve": """improve, increase, reduce, prevent, avoid, boost, enhance, encourage, develop,
        manage, deal with, cope with, handle, overcome, protect, support, maintain, promote,
        stay, stop, lower, help, save, tell if, tell whether, know if, raise, attract, keep,
        motivate, be more, be a better, become a better, become more, get better at, balance,
        strengthen, minimise, minimize, ensure, optimise, optimize, address, combat, tackle,
        mitigate, achieve, foster, contribute""",
    "whatif": """what if, what would happen, suppose, supposing, would the world, be different,
        had never, hadn't, imagine a world, imagine that""",
    "procedure": """step by step, step, steps, procedure, process, instructions, tutorial,
        walk me, walkthrough, guide, guide me, recipe, itinerary, timeline, chronology,
        chronological, schedule, order, stages, phases, sequence, take me through,
        from start to finish, from scratch, day by day, week by week, teach me, show me how,
        evolution, route, training plan, study plan, meal plan, history, story of, life cycle,
        what happened, life cycle of, plot, first second, roadmap, in order""",
    "prove": """prove, proof, derive, derivation, show that, argue, argue that, argument, defend,
        make the case, convince me, from first principles, premises""",
    "mechanism": """works, work, mechanism, happens when, formed, form, made, generated,
        produced, get from""",
    "make": """make, bake, cook, install, build, set up, assemble, knit, sew, fold, tie, brew,
        deploy, configure, connect, register, apply for, replace, repair, fix, change the, mount,
        boil, create an account, migrate, upgrade, update, reset, uninstall, enable, disable,
        draw, flash, format, setting up, plan""",
    "text": """poem, haiku, sonnet, limerick, ode, essay, story, letter, email, mail, speech,
        song, lyrics, rap, blog post, blog, article, script, screenplay, review, tweet, post,
        report, dialogue, scene, caption, headline, title, slogan, tagline, press release, toast,
        biography, monologue, soliloquy, novel, tale, fairy tale, joke, riddle, message,
        cover letter, product description, announcement, contract, advert, advertisement, memo,
        summary, abstract, obituary, invitation, conversation, synopsis, short story, fable,
        verse, play, newsletter, statement, resignation, proposal, opinion piece, complaint,
        thank you note, thread, guidebook, farewell, motivational, persuasive, letters, emails,
        poems, stories, songs, flyer, brochure, eulogy, text message, bio, conclusion,
        introduction, diary entry, pitch""",
    "write": """write, compose, draft, writing, rap about, pen, craft""",
    "code": """python, javascript, java, typescript, rust, haskell, golang, c++, c#, php, ruby,
        kotlin, swift, sql, html, css, bash, shell, regex, regular expression, code, program,
        function, class, script that, api endpoint, query, algorithm, array, string, integer,
        git, dockerfile, json, xml, yaml, csv, unit test, database schema, implement, debug,
        compile, snippet, method that, react, component, loop, variable, linked list, binary,
        node, webpage, web page, stack, queue, null, exception, typeerror, syntax""",
    "translate": """translate, translation, into french, into german, into spanish, into english,
        into chinese, into japanese, in french, in german, in spanish, in italian, in korean,
        in japanese, how do you say""",
    "rework": """rewrite, rephrase, paraphrase, reword, summarise, summarize, shorten, proofread,
        correct, edit, extract, classify, categorize, convert, tl ; dr, condense, simplify,
        fix the, fix this, expand on, label, sort, turn this, turn these, make it, unscramble,
        polish, reformat, sentiment, transform the, turn that, translate the, highlight""",
    "given": """following, passage, below, text, sentence, according to, based on the, context,
        this text, the passage, the text, the article, paragraph, given, this article, excerpt,
        mentioned, read the, input, above, document, dialog, transcript""",
    "format": """one sentence, two sentences, one word, single sentence, one paragraph,
        single paragraph, words or fewer, words or less, only, just, exactly, table, yes or no,
        true or false, answer with, json array, no explanation, one line, nothing else, max,
        at most""",
    "continue": """continue, complete, fill in, finish, repeat, next""",
    "calculate": """calculate, compute, solve, derivative, integral, equation, probability, sum,
        product, root, roots, square, multiply, divided, equals, percent, percentage, average,
        value of, triangle, circle, prime, integers, matrix, radius, area, perimeter, divisor,
        how many ways""",
    "estimate": """estimate, roughly, approximately, approximate""",
    "quantity": """how many, how much, how long, how far, how old, how tall, how big, how high,
        how often, how fast, how deep, how heavy, how large""",
    "fact": """who, whose, whom, when, where, what year, which year, capital, population, author,
        inventor, name of, what time, what day, what date, what colour, what color, largest,
        biggest, smallest, longest, highest, tallest, first person, synonym, antonym, opposite,
        plural, height, distance, currency, weather, first woman, first man, located, born,
        which of the following, which of these, hours, names, capitals, planets""",
    "meaning": """mean, means, meaning, definition, define, stand for, what's a, abbreviation,
        pronounce, spell, called, word for, phrase""",
    "role": """pretend, act as, role-play, roleplay, role play, you are a, you are an, you're a,
        you are, imagine you, imagine you're, imagine yourself, in the voice of, in the style of,
        speak like, play the role, in character, as if you, persona, as a""",
    "chat": """hi, hello, hey, thanks, thank you, good morning, how are you, bye, lol, ok,
        your name, are you, do you, bored, yourself, what's up, sorry""",
    "enumerate": """list, name, enumerate, identify, list of, bullet points, numbered list,
        several, some, a few, various, a couple of, provide, main, major, key, common, effective,
        potential, possible, primary, different, any, most important, other, more""",
    "discuss": """discuss, analyse, analyze, outline, overview, describe, explain, explore,
        examine, assess, tell me about, talk about, elaborate, evaluate the""",
    "trouble": """wrong, what can i do, what should i do, what could we do, struggling, problem,
        issue, trouble, what to do, what can, worried, could be""",
    "judge": """recognise, recognize, spot, evaluate, choose, pick, select, judge, decide,
        detect a, verify, assess the, determine if, determine whether, tell the difference""",
    "social": """make friends, make small talk, small talk, get over, cheer up, behave, persuade,
        stand out, dress for, decorate, entertain, celebrate, welcome, apologise, apologize,
        respond, survive, show appreciation, listen, grieving, fit in, stay in touch""",
    "weigh": """more important, better to, prioritise, prioritize, moral obligation, morally,
        ethical to, ought, duty to, should we, more valuable, matters more, is it right,
        ever right, owe, justified, permissible, focus on""",
    "single": """the best, a word, a number, a name, a title, a synonym, random, one reason,
        which one, best""",
}

# Pieces of text here and below, for words are not set apart: the longest that fits counts.
CHINESE: Mapping[str, str] = {
    "benefit": """好处 优点 优势 益处 长处 利弊 利与弊 优缺点 优劣 亮点 价值 收益 好坏""",
    "drawback": """坏处 缺点 劣势 弊端 危害 风险 局限 短处 副作用 隐患 负面 威胁 误区 陷阱 坑
        缺陷 不足""",
    "way": """方法 办法 方式 策略 措施 对策 途径 手段 方案 替代品 渠道""",
    "advice": """建议 技巧 窍门 妙招 点子 主意 诀窍 贴士 要点 攻略 心得 经验 注意事项 清单 守则
        出出主意 意见 创意 想法 秘诀 启示 准则""",
    "cause": """原因 理由 因素 为什么 为何 为啥 成因 动机 根源""",
    "effect": """影响 后果 意义 作用 改变 变化 带来 重要性 冲击 结果 贡献 重要 角色 效果""",
    "difference": """区别 差异 不同 异同 比较 对比 相比 差别 相同点""",
    "kind": """种类 类型 例子 特点 特征 方面 要素 应用 场景 风格 流派 功能 组成 角度 趋势 元素
        原则 常见 表现 优秀 观点 内容 领域""",
    "trait": """技能 能力 素质 品质 挑战 问题 迹象 症状 习惯 困难 职责 条件 要求 书 电影 活动
        礼物 地方 景点 食物 发明 信号 事情 事项 误解 技术 论据 证据 机会""",
    "consider": """注意 考虑 留意 看哪些 小心 准备些 准备哪些 要准备 想清楚 关注""",
    "recommend": """推荐 介绍 提供 分享 提出 想几个""",
    "improve": """提高 提升 改善 减少 增加 降低 缓解 保持 克服 避免 防止 应对 处理 保护 培养 鼓励
        解决 吸引 增强 判断 辨别 控制 预防 支持 帮助 成为 减轻 适应 平衡 促进 激励 养成 安慰
        选择""",
    "help": """怎么办 该怎么 怎么样才能 怎样才能 怎么才能 如何才能 有什么办法 有没有 怎么处理
        怎么改进 咋办 怎么做才能""",
    "which": """哪些 有什么 有啥 什么样的 哪几 哪几种 有几种""",
    "whatif": """如果 假如 要是 假设 倘若 会怎样 会怎么样 会发生什么 会变成 假使""",
    "procedure": """步骤 一步 流程 过程 做法 菜谱 食谱 教程 教我 行程 时间顺序 依次 始末 经过
        历程 计划 从头 从零 按顺序 顺序 程序 详细说明 手把手 起源 发展史 阶段 历史 然后 接下来
        下一步 路线 周期 演变 日程 一步一步 一步步 操作 来龙去脉 指南 训练计划""",
    "prove": """证明 推导 论证 立场 论点""",
    "mechanism": """原理 机制 如何工作 运作 是如何 是怎么 是怎样 怎么形成 怎么来的 如何形成
        起作用 形成""",
    "make": """安装 组装 设置 搭建 制作 折 织 煮 做饭 更换 换 注册 办理 申请 部署 配置 重装 连接
        炒 炖 烤 包饺子 导出 修 泡 设定 创建 迁移""",
    "text": """诗 作文 文章 故事 信 邮件 演讲稿 文案 日记 小说 散文 剧本 歌词 论文 脚本 标题
        广告语 童话 对话 致词 致辞 观后感 读后感 新闻稿 微博 笑话 请假条 对联 祝福语 报告 情书
        周报 评论 描述一下 文 段子 一段 一篇 一首 一封 说明书 简历模板 发言稿 寓言 谜语 公众号
        朋友圈 点评 提案 议论文 广告 演讲 投诉信 辞职信 感谢信 通知 新诗 绝句""",
    "write": """写 撰写 编写 创作 起草 拟""",
    "code": """代码 函数 编程 程序代码 正则 脚本程序 查询 数组 算法 网页 一个程序 实现 变量
        字符串 报错 数据结构 命令 链表""",
    "translate": """翻译 译成 译为 用英语怎么说 用日语怎么说 英语怎么说 怎么说 英文 英语""",
    "rework": """改写 润色 总结 概括 缩短 提取 摘要 修改 改正 改成 转换 换算 校对 分类 归纳 检查
        排序 缩写 扩写 病句 错别字 整理 抽取 归类 情感""",
    "given": """下面 以下 下列 这段 这句 这篇 上文 下文 材料 短文 阅读 根据 句子 文本 这条 原文
        给定 文中 段落 提到 选项""",
    "format": """一句话 一个词 表格 只回答 只要 格式 不超过 字以内 一个字 是或否 不要其他
        简短回答 一段话 形式输出 输出""",
    "continue": """续写 填空 造句 接着 补全 继续""",
    "calculate": """计算 求 等于 解方程 方程 平方根 面积 概率 公约数 积分 质数 因数 乘以 除以 加
        减去 之和 多少种 几种走法 几种坐法 已知 乘 公倍数""",
    "estimate": """估算 估计 大约""",
    "quantity": """多少 多高 多远 多长 多大 多重 多久 几岁 几只 多快 多深 几次 几天 几点""",
    "fact": """谁 哪年 哪一年 哪里 什么时候 首都 作者 哪座 哪个 哪颗 哪位 哪国 何时 哪种 哪部
        哪天 化学符号 沸点 熔点 海拔 人口 天气 哪两 哪四 哪几大 全称 名字 冠军 哪一座""",
    "meaning": """什么意思 意思 定义 什么是 近义词 反义词 同义词 怎么读 怎么念 全文 释义""",
    "role": """假装 扮演 你是一位 你是一名 你是一个 作为 想象你是 如果你是 角色扮演 口吻 你会对""",
    "chat": """你好 谢谢 早上好 你是谁 在吗 聊天 再见 晚安 无聊 你叫 我叫 哈哈 你会""",
    "enumerate": """列举 列出 举出 举例 举几个 请列 一些 几个 几条 几种 几本 几部 主要 各有 逐一
        分别 各自 多个 并说明 说说 五个 三个 十个 十条 五条 三条 三种 五种 几项 有关 多角度 分点""",
    "discuss": """分析 谈谈 谈一谈 论述 讨论 阐述 简述 说明 解释 描述 讲讲 探讨 看法 评价
        如何看待""",
    "want": """我想 想要 打算 我家 我们 怎么 怎样 如何 怎么样""",
    "judge": """识别 挑选 辨认 看出 怎么选 怎么挑 衡量 评估""",
    "weigh": """更重要 应该先 还是 哪一个更 应不应该 是否应该 道德 优先 合法化 应该被 有权""",
    "yesno": """吗 是不是 能不能 是否 对吗 可以吗 会不会""",
}

JAPANESE: Mapping[str, str] = {
    "benefit": """メリット 利点 長所 良い点 いい点 強み 魅力 効能 功罪 是非 賛否 効用""",
    "drawback": """デメリット 欠点 短所 悪い点 リスク 弊害 害 危険性 副作用 悪影響 弱点 脅威 誤解
        失敗 落とし穴 限界 懸念""",
    "way": """方法 対策 施策 手段 解決策 措置 選択肢 代替 戦略 防止策 改善策 対処法 予防法 勉強法
        見分け方 選び方 付き合い方 接し方 守り方 減らし方 代わり""",
    "advice": """コツ アドバイス ヒント アイデア アイディア ポイント 提案 秘訣 助言 工夫 心得
        注意点 注意事項 案 心がけ 節約術 テクニック 裏技 持ち物 チェックポイント おすすめ
        オススメ お勧め""",
    "cause": """理由 原因 要因 なぜ どうして なんで 背景 動機""",
    "effect": """影響 効果 変化 結果 意義 役割 もたらし 重要 大切 大事 重要性 どう変え どう変わ
        意味が""",
    "difference": """違い 違う 異なる 比較 比べ 差異 相違 共通点 どう違""",
    "kind": """種類 特徴 例 活用例 応用 観点 側面 要素 スタイル 学派 機能 用途 使い分け 点 面
        傾向 事例 原則 分野 項目 考え方""",
    "trait": """課題 問題 問題点 症状 スキル 能力 資質 習慣 サイン 困難 条件 責任 職務 質 こと
        もの ところ 場所 スポット 本 映画 食べ物 プレゼント 発明 技術 テーマ 兆候 特性 証拠 機会
        名所""",
    "consider": """気をつけ 注意 考慮 考えるべき 考えておく 確認 準備 気を付け 見るべき
        知っておく 心配 留意 注目""",
    "recommend": """紹介 提案して 出して 助言して 教えて""",
    "improve": """高める 減らす 増やす 防ぐ 避ける 保つ 改善 上達 克服 下げる 伸ばす 育てる 守る
        見分ける 対処 対応 和らげる 解消 得意になる 上手に うまく 集める 養う 付き合う 鍛える
        支援 続ける 乗り越え 向上 予防 抑える 促進 保護 楽しめる 立ち直る 慰め""",
    "help": """どうすれば どうしたら どうしたらいい にはどう 何ができ できること ほしい 悩んで
        困って やめさせたい たいのですが たいけど たいです 知りたい""",
    "which": """どんな どのような どういった どういう いくつか 何がある 何ですか 何でしょう 何か
        何がいい とは""",
    "whatif": """もし たら なかったら としたら どうなって どうなる 何が起こ 何が起き 想像して""",
    "procedure": """手順 ステップ 順番 順を追って 順に 流れ 作り方 レシピ やり方 仕方 工程 経緯
        旅程 計画 スケジュール 一から ゼロから 最初から 時系列 年代順 歴史 過程 組み立て方 使い方
        手続き 段階 一つずつ 次は それから までの 折り方 結び方 編み方 方の 指し方 揃え方
        申請方法 一生 プラン メニュー 歩み 変遷 経路 乗り換え 詳しい手順 求め方""",
    "prove": """証明 導出 導いて 論証 立場 筋道 導け""",
    "mechanism": """仕組み メカニズム 原理 どうやって どのようにして どのように どうして動 しくみ
        起こる できる""",
    "make": """作る インストール 設定 組む 作って 交換 移す 立ち上げ 取り付け 編む 焼く 煮る 折る
        申請 登録 更新 接続 修理 立てて 組んで 移行""",
    "text": """詩 俳句 短歌 作文 物語 手紙 メール スピーチ エッセイ 小説 童話 歌詞 台本 ブログ
        記事 レポート 会話 感想文 ツイート プレスリリース キャッチコピー 商品説明 退職願 志望動機
        タイトル ラブレター ジョーク 日記 文章 一句 脚本 論文 広告 案内文 挨拶 メッセージ お話
        あらすじ なぞなぞ 漫才 レビュー 報告書 招待状 自己紹介 意見文 文書 広告文 小論文 感想
        ポエム 通知 苦情 お礼""",
    "write": """書いて 書き 書け 作成 執筆 綴って 作文して""",
    "code": """コード 関数 プログラムを 正規表現 実装 配列 クエリ 文字列 アルゴリズム エラー
        ページ スクリプト 変数 シェル コマンド 二分探索""",
    "translate": """訳して 翻訳 英語で 何と言 フランス語 中国語 韓国語に 英訳 和訳 なんて言う
        英語に""",
    "rework": """要約 まとめて 書き直 書き換え 直して 抜き出 抽出 変換 校正 推敲 分類 並べ 添削
        短くして 言い換え 判定 敬語 まとめ直 換算 整理して""",
    "given": """次の 以下 この文 この文章 下記 本文 文章を読 次のうち この記事 段落 このコード
        このレビュー 述べられて 前の 上記""",
    "format": """一言 一文 表に 表だけ だけ 字以内 字で 形式で 出力 はいかいいえ 一つだけ 一語""",
    "continue": """続き 穴埋め 空欄 使って文 しりとり もう一度 もう一回 もっと短く""",
    "calculate": """計算 求めて 求めよ 求めなさい 解いて 方程式 平方根 面積 確率 公約数 積分 素数
        約数 何通り 因数分解 いくつですか かける 合計 解け""",
    "estimate": """推定 見積も 概算 およそ""",
    "quantity": """いくつ 何人 何個 何本 何回 何年 何日 何歳 何度 何キロ 何分 どれくらい
        どのくらい 高さ 長さ 何円 何匹 何時 距離 重さ 大きさ 何冊 何色 何枚""",
    "fact": """誰 だれ いつ どこ 首都 作者 人口 標高 天気 元素記号 どれ 名前は 優勝 国名 どちら
        元の""",
    "meaning": """意味 とは何 定義 読み方 対義語 類義語 何の略 どういう意味""",
    "role": """なりきって なって あなたは として 役を 演じて 風に 口調 ふりを ロールプレイ""",
    "chat": """こんにちは ありがとう おはよう こんばんは 調子 暇 雑談 助かった 覚えて さようなら
        はじめまして""",
    "enumerate": """挙げて 挙げ 列挙 リストアップ リストに いくつ紹介 五つ 三つ 主な 主要な
        箇条書き それぞれ よくある さまざま 他に 他にも ほかに もっと例 いろいろ 3つ 5つ 10個
        など""",
    "discuss": """論じ 述べて 述べなさい 分析 説明 考察 解説 考えを どう思い どう思う 考えられ""",
    "judge": """見抜く 選ぶ 選べば 判断 見極め 確かめ""",
    "weigh": """べきか べきでしょうか 優先 より大切 より重要 どちらが大切 どちらが大事 許され
        道徳 合法化 義務""",
    "yesno": """るか 可能ですか 大丈夫""",
}

_TRADITIONAL = (
    "優點處壞說請問麼樣學習會經驟寫詩詞譯語單個幾條種類別區異對較舉紹為響後過應該從開關係計劃製"
    "線設裝電腦機網頁題誰裡時間長遠歲數據訴給幫讓與還這們體國歷劇藝術報導論證議築發現見覺觀買賣"
    "價錢東車養選擇環變態動務業產當實際護歡愛氣適認識記憶慮緩壓決難備準離總結構標級練錄資閱讀書"
    "圖畫頭領師樂聽視頻節減輕險風錯誤檢測試驗簡續傳統顏戰爭場勢慣張專親兒媽壓鬆緊質腳擾"
)
_SIMPLE = (
    "优点处坏说请问么样学习会经骤写诗词译语单个几条种类别区异对较举绍为响后过应该从开关系计划制"
    "线设装电脑机网页题谁里时间长远岁数据诉给帮让与还这们体国历剧艺术报导论证议筑发现见觉观买卖"
    "价钱东车养选择环变态动务业产当实际护欢爱气适认识记忆虑缓压决难备准离总结构标级练录资阅读书"
    "图画头领师乐听视频节减轻险风错误检测试验简续传统颜战争场势惯张专亲儿妈压松紧质脚扰"
)
SIMPLIFIED = str.maketrans(_TRADITIONAL, _SIMPLE)
